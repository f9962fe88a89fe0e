"""Signatures: each method against another library or the slow obvious version, one neuron at a time."""

import itertools
import json
import math
import statistics

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from actlab.ground.errors import ConfigError, DataError
from actlab.ground.later import Later
from actlab.weights.config import methods
from actlab.weights.config.methods import check_methods
from actlab.weights.networks import Architecture, Layer, initial_weights, state_dict
from actlab.weights.signatures import SignatureRows, group_rows, layer_profile, signature, signature_json

FEW_VALUES = st.integers(-4, 4).map(lambda k: k / 4)
VALUES = st.one_of(FEW_VALUES, st.floats(-100, 100, width=32).map(lambda v: v if abs(v) > 1e-3 else 0.0))


@st.composite
def outputs_of_a_layer(draw, max_rows=30):
    shape = (draw(st.integers(1, max_rows)), draw(st.integers(1, 5)))
    return draw(hnp.arrays(np.float32, shape, elements=draw(st.sampled_from([FEW_VALUES, VALUES]))))


def rows_of(names, n_positions=4):
    """Rows of these patterns; None is a negative."""
    rng = np.random.default_rng(len(names))
    tokens = rng.integers(0, 5, (len(names), n_positions)).astype(np.uint8)
    labels = np.array([name is not None for name in names])
    return SignatureRows(tokens, labels, tuple(name or "whatever" for name in names))


def profile(outputs, spec, names=None):
    groups = group_rows(rows_of(names or ["all_same"] * len(outputs)))
    return layer_profile(np.asarray(outputs, dtype=np.float32), groups, check_methods(spec))


def values(outputs, name, **parameters):
    return profile(outputs, {name: parameters})[name]


def random_outputs(n=60, o=8, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, o)) @ rng.normal(size=(o, o)) + rng.normal(size=o)).astype(np.float32)


def test_every_method_that_a_config_may_name_has_its_function():
    assert all(callable(Later(method.profile).function) for method in methods.METHODS)
    assert all(1 <= usual <= most for method in methods.METHODS for usual, most in method.parameters.values())


@given(outputs_of_a_layer())
def test_simple_methods_are_what_plain_python_computes_for_each_neuron(outputs):
    found = profile(outputs, ["mean", "std", "max", "min", "sparsity"])
    for neuron, column in enumerate(outputs.T.tolist()):
        assert found["mean"][neuron] == pytest.approx(statistics.fmean(column), rel=1e-6, abs=1e-6)
        assert found["std"][neuron] == pytest.approx(statistics.pstdev(column), rel=1e-6, abs=1e-6)
        assert found["max"][neuron] == max(column)
        assert found["min"][neuron] == min(column)
        assert found["sparsity"][neuron] == pytest.approx(sum(v <= 0 for v in column) / len(column))


@given(outputs_of_a_layer(), st.integers(1, 40))
def test_entropy_is_scipys_of_numpys_histogram(outputs, bins):
    found = values(outputs, "entropy", bins=bins)
    for neuron, column in enumerate(outputs.T.astype(np.float64)):
        counts, _ = np.histogram(column, bins=bins)
        assert found[neuron, 0] == pytest.approx(scipy.stats.entropy(counts), abs=1e-6)


def test_entropy_puts_values_on_an_edge_into_numpys_bin_however_the_division_rounds():
    # 1 / 49 * 49 < 1: whole numbers lie on edges, and the bin computed by division is often the neighbour
    for top in (7, 49, 60, 98, 1000):
        column = np.repeat(np.arange(top + 1.0), np.arange(top + 1) % 3 + 1)
        for bins in range(1, 100):
            counts, _ = np.histogram(column, bins=bins)
            found = values(column[:, None], "entropy", bins=bins)[0, 0]
            assert found == pytest.approx(scipy.stats.entropy(counts), rel=1e-6)


@pytest.mark.parametrize(("n", "o"), [(60, 8), (8, 8), (5, 9), (200, 40)])
def test_pca_gives_the_loadings_of_sklearns_components(n, o):
    outputs = random_outputs(n, o, seed=n)
    k = min(n - 1, o, 3)
    pca = PCA(n_components=k).fit(outputs.astype(np.float64))
    expected = pca.components_.T * np.sqrt(pca.explained_variance_)
    expected *= np.sign(expected[np.abs(expected).argmax(axis=0), np.arange(k)])
    np.testing.assert_allclose(values(outputs, "pca", components=k), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "o"), [(60, 8), (8, 8), (5, 9), (200, 40)])
def test_svd_gives_the_loadings_of_numpys_right_singular_vectors(n, o):
    outputs = random_outputs(n, o, seed=n)
    k = min(n, o, 3)
    _, singular, vectors = np.linalg.svd(outputs.astype(np.float64))
    expected = vectors[:k].T * singular[:k] / np.sqrt(n)
    expected *= np.sign(expected[np.abs(expected).argmax(axis=0), np.arange(k)])
    np.testing.assert_allclose(values(outputs, "svd", components=k), expected, rtol=1e-4, atol=1e-5)


@given(outputs_of_a_layer())
def test_all_loadings_together_give_the_covariance_and_the_second_moments_back(outputs):
    n, o = outputs.shape
    double = outputs.astype(np.float64)
    scale = max(1.0, float((double**2).max()))
    loadings = values(outputs, "svd", components=o).astype(np.float64)
    np.testing.assert_allclose(loadings @ loadings.T, double.T @ double / n, atol=1e-5 * scale * o)
    loadings = values(outputs, "pca", components=o).astype(np.float64)
    expected = np.cov(double.T, ddof=1).reshape(o, o) if n > 1 else np.zeros((o, o))
    np.testing.assert_allclose(loadings @ loadings.T, expected, atol=1e-5 * scale * o)


@pytest.mark.parametrize("name", ["pca", "svd"])
def test_components_beyond_rows_or_neurons_are_zero(name):
    for n, o in [(3, 6), (6, 3)]:
        found = values(random_outputs(n, o), name, components=8)
        rank = min(n - (name == "pca"), o)
        assert found.shape == (o, 8)
        assert (np.abs(found[:, :rank]).max(axis=0) > 0).all()
        assert (found[:, rank:] == 0).all()


@pytest.mark.parametrize("name", ["pca", "svd"])
def test_the_largest_entry_of_a_component_is_positive_whatever_the_outputs_sign(name):
    outputs = random_outputs()
    found = values(outputs, name, components=3)
    assert (found[np.abs(found).argmax(axis=0), range(3)] > 0).all()
    np.testing.assert_allclose(values(-outputs, name, components=3), found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["pca", "svd"])
def test_the_first_of_two_mirrored_neurons_decides_the_sign(name):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        column = rng.normal(size=50)
        quiet = 0.1 * rng.normal(size=(50, 6))
        outputs = np.concatenate([quiet[:, :3], column[:, None], quiet[:, 3:], -column[:, None]], axis=1)
        first, second = values(outputs, name)[[3, 7], 0]
        assert first > 0
        assert second == pytest.approx(-first, rel=1e-5)


def squared_error(column, centres):
    return float((np.abs(column[:, None] - centres[None, :]).min(axis=1) ** 2).sum())


def best_error(column, n_clusters):
    """Try every way to cut the sorted values."""
    ordered, errors = np.sort(column), []
    for cuts in itertools.combinations(range(1, len(column)), n_clusters - 1):
        parts = np.split(ordered, cuts)
        errors.append(sum(((part - part.mean()) ** 2).sum() for part in parts))
    return min(errors)


@settings(max_examples=60)
@given(outputs_of_a_layer(max_rows=12), st.integers(1, 4))
def test_clustering_is_as_good_as_the_best_of_all_cuts(outputs, n_clusters):
    found = values(outputs, "clustering", n_clusters=n_clusters).astype(np.float64)
    for column, centres in zip(outputs.T.astype(np.float64), found, strict=True):
        assert (np.diff(centres) >= 0).all()
        distinct = np.unique(column)
        if len(distinct) <= n_clusters:
            repeated = np.append(distinct, [distinct[-1]] * (n_clusters - len(distinct)))
            np.testing.assert_array_equal(centres, repeated)
        else:
            scale = max(1.0, float((column**2).max()))
            assert squared_error(column, centres) <= best_error(column, n_clusters) + 1e-5 * scale


@pytest.mark.parametrize("n_clusters", [1, 2, 3, 5])
def test_clustering_is_no_worse_than_sklearns_k_means_which_cannot_improve_it(n_clusters):
    outputs = random_outputs(n=80, o=4)
    found = values(outputs, "clustering", n_clusters=n_clusters)
    for column, centres in zip(outputs.T.astype(np.float64)[:, :, None], found, strict=True):
        restarts = KMeans(n_clusters, n_init=30, random_state=0, tol=0).fit(column)
        assert squared_error(column[:, 0], centres) <= restarts.inertia_ * (1 + 1e-5)
        continued = KMeans(n_clusters, init=centres[:, None].astype(np.float64), n_init=1, tol=0).fit(column)
        np.testing.assert_allclose(continued.cluster_centers_[:, 0], centres, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_clusters", [2, 3, 5])
def test_clustering_finds_sklearns_centres_where_clusters_are_plain(n_clusters):
    rng = np.random.default_rng(5)
    outputs = rng.normal(size=(90, 3)) + 20 * rng.integers(0, n_clusters, size=(90, 3))
    found = values(outputs, "clustering", n_clusters=n_clusters)
    for column, centres in zip(outputs.T[:, :, None], found, strict=True):
        k_means = KMeans(n_clusters, n_init=30, random_state=0, tol=0).fit(column)
        np.testing.assert_allclose(centres, np.sort(k_means.cluster_centers_[:, 0]), rtol=1e-5, atol=1e-5)


def test_a_neuron_with_too_few_values_repeats_its_last_one_beside_neurons_that_have_enough():
    outputs = [[0, 7, 0], [0, 7, 1], [2, 7, 10], [2, 7, 11], [0, 7, 30]]
    assert values(outputs, "clustering", n_clusters=3).tolist() == [[0, 2, 2], [7, 7, 7], [0.5, 10.5, 30]]


@given(outputs_of_a_layer(), st.integers(1, 20))
def test_fourier_gives_the_largest_magnitudes_of_the_transform_written_out(outputs, n_frequencies):
    n = len(outputs)
    found = values(outputs, "fourier", n_frequencies=n_frequencies)
    for neuron, column in enumerate(outputs.T.astype(np.float64)):
        centred = column - column.mean()
        waves = [np.exp(-2j * math.pi * f * np.arange(n) / n) for f in range(1, n // 2 + 1)]
        magnitudes = sorted((abs((centred * wave).sum()) / n for wave in waves), reverse=True)
        expected = (magnitudes + [0.0] * n_frequencies)[:n_frequencies]
        np.testing.assert_allclose(found[neuron], expected, rtol=1e-5, atol=1e-5)


def test_fourier_gives_half_the_height_of_a_wave():
    rows = np.arange(40)
    outputs = 3 + 2 * np.cos(2 * math.pi * 5 * rows / 40) + 0.5 * np.sin(2 * math.pi * 2 * rows / 40)
    found = values(outputs[:, None], "fourier", n_frequencies=3)
    np.testing.assert_allclose(found, [[1.0, 0.25, 0.0]], atol=1e-6)


@given(outputs_of_a_layer(), st.data())
def test_pattern_wise_is_the_mean_over_each_patterns_rows_and_over_the_negatives(outputs, data):
    names = data.draw(
        st.lists(st.sampled_from(["b", "a", None]), min_size=len(outputs), max_size=len(outputs)), label="patterns"
    )
    found = profile(outputs, ["pattern_wise"], names)["pattern_wise"]
    groups = {}
    for name, row in zip(names, outputs.astype(np.float64), strict=True):
        groups.setdefault(name or "none", []).append(row)
    assert group_rows(rows_of(names)).names == tuple(groups)
    expected = np.stack([np.mean(rows, axis=0) for rows in groups.values()], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_constant_neuron_has_no_spread_of_any_kind():
    outputs = np.full((50, 2), 0.1, dtype=np.float32)
    found = profile(outputs, list(methods.METHODS.names))
    for name in ("std", "entropy", "pca", "fourier"):
        assert (found[name] == 0).all()
    assert (found["clustering"] == np.float32(0.1)).all()
    np.testing.assert_allclose(found["svd"], 0.1, rtol=1e-6)


def test_a_single_row_is_profiled():
    found = profile([[2.0, -4.0]], list(methods.METHODS.names), [None])
    expected = {name: [[0], [0]] for name in ("std", "entropy", "pca", "fourier")}
    expected |= {name: [[2], [-4]] for name in ("mean", "max", "min", "pattern_wise")}
    expected |= {"svd": [[-2], [4]], "clustering": [[2, 2], [-4, -4]], "sparsity": [[0], [1]]}
    assert list(found) == list(methods.METHODS.names)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)


def test_a_layer_of_one_neuron_is_profiled():
    column = np.array([1.0, 2.0, 3.0, 6.0])
    found = profile(column[:, None], list(methods.METHODS.names))
    assert found["pca"].item() == pytest.approx(column.std(ddof=1))
    assert found["svd"].item() == pytest.approx(math.sqrt((column**2).mean()))
    assert found["clustering"].tolist() == [[2, 6]]


ACTIVATION_MODULES = {
    "relu": torch.nn.ReLU,
    "gelu": torch.nn.GELU,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
    "leaky_relu": torch.nn.LeakyReLU,
}


def linear_outputs(architecture, weights, tokens):
    """Build the documented Sequential and listen at its Linears."""
    modules = []
    for number, (o, i) in enumerate(architecture.sizes):
        modules.append(torch.nn.Linear(i, o))
        if number < architecture.num_layers:
            modules.append(ACTIVATION_MODULES[architecture.activation_type]())
            if architecture.dropout_rate > 0:
                modules.append(torch.nn.Dropout(architecture.dropout_rate))
    network = torch.nn.Module()
    network.network = torch.nn.Sequential(*modules)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in state_dict(architecture, weights).items()})
    heard = {}
    for index, module in enumerate(modules):
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _m, _i, out, index=index: heard.update({str(index): out.numpy()}))
    with torch.no_grad():
        network.network.eval()(torch.tensor(tokens.tolist(), dtype=torch.float32))
    return heard


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("activation", list(ACTIVATION_MODULES))
def test_the_signature_is_of_every_linears_outputs_before_its_activation(activation, dropout):
    architecture = Architecture(5, 4, 3, 6, activation, dropout)
    weights = initial_weights(architecture, np.random.default_rng(3))
    rows = rows_of(["a", None, "b"] * 5)
    document = signature_json(architecture, signature(architecture, weights, rows, check_methods(["mean", "max"])))
    heard = linear_outputs(architecture, weights, rows.tokens)
    assert list(document["neuron_activations"]) == list(heard)
    for index, outputs in heard.items():
        profiles = document["neuron_activations"][index]["neuron_profiles"]
        assert len(profiles) == outputs.shape[1]
        for neuron, column in enumerate(outputs.T):
            assert profiles[str(neuron)]["mean"] == pytest.approx(column.mean(), rel=1e-5, abs=1e-6)
            assert profiles[str(neuron)]["max"] == pytest.approx(column.max(), rel=1e-5, abs=1e-6)


def test_the_json_has_the_documented_structure_with_layers_in_numeric_order():
    architecture = Architecture(5, 4, 11, 3, "relu")
    weights = initial_weights(architecture, np.random.default_rng(0))
    spec = dict.fromkeys(methods.METHODS.names) | {"pca": {"components": 2}, "clustering": {"n_clusters": 1}}
    profiled = signature(architecture, weights, rows_of(["b", None, "a", "b"]), check_methods(spec))
    document = signature_json(architecture, profiled)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert list(document) == ["neuron_activations", "model_config"]
    assert document["model_config"]["neurons_per_layer"] == 3
    assert list(document["neuron_activations"]) == [str(index) for index in range(0, 24, 2)]
    for index, layer in document["neuron_activations"].items():
        n_neurons = 1 if index == "22" else 3
        assert list(layer) == ["neuron_profiles", "layer_info"]
        assert layer["layer_info"] == {"num_neurons": n_neurons, "num_examples": 4, "profile_methods": list(spec)}
        assert list(layer["neuron_profiles"]) == [str(neuron) for neuron in range(n_neurons)]
        for neuron in layer["neuron_profiles"].values():
            assert list(neuron) == list(spec)
            assert list(neuron["pattern_wise"]) == ["b", "none", "a"]
            assert len(neuron["pca"]) == 2
            assert isinstance(neuron["mean"], float)
            assert isinstance(neuron["clustering"], float)


def test_the_json_numbers_are_the_float32_values():
    architecture = Architecture(5, 4, 2, 6, "gelu")
    weights = initial_weights(architecture, np.random.default_rng(1))
    profiled = signature(architecture, weights, rows_of(["a"] * 9 + [None] * 9), check_methods(["std", "fourier"]))
    document = json.loads(json.dumps(signature_json(architecture, profiled)))
    for layer, values_of in zip(document["neuron_activations"].values(), profiled.layers, strict=True):
        for name in ("std", "fourier"):
            found = [neuron[name] for neuron in layer["neuron_profiles"].values()]
            np.testing.assert_array_equal(np.float32(found), values_of[name][:, 0])


def test_a_network_that_diverged_and_an_empty_signature_dataset_are_refused():
    architecture = Architecture(5, 4, 1, 2, "relu")
    rows, mean = rows_of(["a"]), check_methods(["mean"])
    large = tuple(
        Layer(np.full_like(layer.weight, 3e38), layer.bias)
        for layer in initial_weights(architecture, np.random.default_rng(0))
    )
    with pytest.raises(DataError, match="not finite"):
        signature(architecture, large, rows_of(["a"] * 9), mean)
    empty = SignatureRows(rows.tokens[:0], rows.labels[:0], ())
    with pytest.raises(DataError, match="no rows"):
        signature(architecture, initial_weights(architecture, np.random.default_rng(0)), empty, mean)


def test_a_list_and_a_mapping_of_methods_mean_the_same():
    as_list = check_methods(["entropy", "mean"])
    assert as_list == check_methods({"entropy": None, "mean": {}, "std": False})
    assert as_list == check_methods({"entropy": True, "mean": True})
    assert [dict(method.settings) for method in as_list] == [{"bins": 20}, {}]
    (changed,) = check_methods({"pca": {"components": 3}})
    assert changed.settings == {"components": 3}


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        (["mean", "entrpy"], "'entrpy', which is no method", "did you mean 'entropy'?"),
        ([{"mean": {}}], "which is no method", "choose from mean, std"),
        ({"median": False}, "'median', which is no method", ""),
        ({1: None}, "1, which is no method", "choose from"),
        (["mean", "mean"], "'mean' twice", "once"),
        ([], "leaves no method", "choose from"),
        ({"mean": False}, "leaves no method", "choose from"),
        (None, "neither a list nor a mapping", "[mean, std]"),
        ("mean", "neither a list nor a mapping", "[mean, std]"),
        ({"entropy": 20}, "entropy is 20, not a mapping", "write entropy: {bins: 20}"),
        ({"entropy": {"bin": 20}}, "no parameter 'bin'", "did you mean 'bins'?"),
        ({"mean": {"bins": 20}}, "no parameter 'bins'", "no parameters"),
        ({"entropy": {"bins": 0}}, "bins is 0", "from 1 to 1000; 20 is usual"),
        ({"entropy": {"bins": 1001}}, "bins is 1001", "from 1 to 1000"),
        ({"clustering": {"n_clusters": 21}}, "n_clusters is 21", "from 1 to 20"),
        ({"pca": {"components": True}}, "components is True", "whole number"),
        ({"pca": {"components": 2.0}}, "components is 2.0", "whole number"),
        ({"fourier": {"n_frequencies": None}}, "n_frequencies is None", "whole number"),
    ],
)
def test_a_wrong_choice_of_methods_is_refused_with_the_next_step(spec, message, hint):
    with pytest.raises(ConfigError) as refused:
        check_methods(spec)
    assert message in str(refused.value)
    assert hint in refused.value.hint
