"""What each neuron does over the rows of the signature dataset, in a few numbers a method."""

# n rows, p positions, o outputs of a layer (its neurons), k numbers of a method, g groups of rows, c clusters

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.linalg import eigh
from scipy.special import entr

from actlab.formats.sequence_sets import NEGATIVE
from actlab.ground.errors import DataError
from actlab.ground.later import Later
from actlab.weights.config.methods import METHODS, ProfileMethod
from actlab.weights.networks import Architecture, Weights, pre_activations
from actlab.weights.number_format import ROUND_TRIP_FLOAT32, NumberFormat

_RANK_TOLERANCE = 1e-13
"""An eigenvalue below this share of the largest is the rounding of a float64 Gram matrix."""

_TIE_TOLERANCE = 1e-6
"""Entries so near to the largest count as tied with it: the first decides the sign, on any machine."""


class SignatureRows(NamedTuple):
    """The signature dataset."""

    tokens: UInt8[np.ndarray, "n p"]
    labels: Bool[np.ndarray, " n"]
    patterns: tuple[str, ...]
    """The pattern for which a row was drawn; without meaning where the label is no."""


class Groups(NamedTuple):
    """The rows of each pattern, in the order in which patterns first appear."""

    names: tuple[str, ...]
    shares: Float[np.ndarray, "g n"]
    """1 / size for the group's own rows, 0 for others."""


Profile = dict[str, Float[np.ndarray, "o k"]]
"""A layer's numbers by method, float32."""

NamedProfiles = Later[[np.ndarray, Groups, Mapping[str, int]], np.ndarray]
"""`Profiles` by the name that a `Method` gives."""


class Signature(NamedTuple):
    """A network's profiles, layer by layer, the output layer's last."""

    layers: tuple[Profile, ...]
    patterns: tuple[str, ...]
    """What the columns of `pattern_wise` stand for."""
    n_rows: int


def group_rows(rows: SignatureRows) -> Groups:
    """Group the rows by pattern; the negatives are a group of their own, named "none"."""
    row_names = [name if label else NEGATIVE for name, label in zip(rows.patterns, rows.labels, strict=True)]
    names = tuple(dict.fromkeys(row_names))
    members_gn = np.array(names)[:, None] == np.array(row_names)[None, :]
    return Groups(names, members_gn / members_gn.sum(axis=1, keepdims=True))


def signature(
    architecture: Architecture, weights: Weights, rows: SignatureRows, methods: Sequence[ProfileMethod]
) -> Signature:
    """Profile every neuron of a network by its pre-activation outputs over the rows.

    Raises:
        DataError: There are no rows, or an output is not finite.
    """
    if not len(rows.tokens):
        raise DataError("the signature dataset has no rows", hint="make one with actlab create-sig-dataset")
    groups = group_rows(rows)
    outputs = pre_activations(architecture, weights, rows.tokens)
    if not all((np.abs(outputs_no) < np.finfo(np.float32).max).all() for outputs_no in outputs):
        raise DataError("an output of the network is not finite", hint="leave this network out: it has diverged")
    layers = tuple(layer_profile(outputs_no, groups, methods) for outputs_no in outputs)
    return Signature(layers, groups.names, len(rows.tokens))


def layer_profile(outputs_no: Float[np.ndarray, "n o"], groups: Groups, methods: Sequence[ProfileMethod]) -> Profile:
    """Profile a layer's neurons, all at once; computed in float64, returned in float32."""
    double_no = outputs_no.astype(np.float64)
    return {
        name: NamedProfiles(METHODS[name].profile)(double_no, groups, settings).astype(np.float32)
        for name, settings in methods
    }


def signature_json(
    architecture: Architecture, profiled: Signature, numbers: NumberFormat = ROUND_TRIP_FLOAT32
) -> dict[str, object]:
    """Return a signature as the documents have it: layers by their index in the Sequential, neurons by number.

    A neuron's value is a number, a list where the method gives several, or for `pattern_wise` a mapping from patterns.
    """
    layers: dict[str, object] = {}
    for index, profile in zip(architecture.module_indices, profiled.layers, strict=True):
        columns = {name: _json_values(name, numbers.rounded(v), profiled.patterns) for name, v in profile.items()}
        n_neurons = len(next(iter(profile.values())))
        layers[str(index)] = {
            "neuron_profiles": {str(o): {name: c[o] for name, c in columns.items()} for o in range(n_neurons)},
            "layer_info": {
                "num_neurons": n_neurons,
                "num_examples": profiled.n_rows,
                "profile_methods": list(profile),
            },
        }
    return {"neuron_activations": layers, "model_config": architecture.as_json()}


def _json_values(name: str, values_ok: np.ndarray, patterns: tuple[str, ...]) -> list[object]:
    if METHODS[name].by_pattern:
        return [dict(zip(patterns, row, strict=True)) for row in values_ok.tolist()]
    return list((values_ok[:, 0] if values_ok.shape[1] == 1 else values_ok).tolist())


# The methods: each takes a layer's outputs in float64, the groups of the rows and its own settings.

Profiles = Callable[[np.ndarray, Groups, Mapping[str, int]], np.ndarray]
"""From a layer's outputs (n, o) to its numbers (o, k)."""


def _plain(reduce: Callable[[np.ndarray], np.ndarray]) -> Profiles:
    return lambda outputs_no, groups, settings: reduce(outputs_no)[:, None]


mean = _plain(lambda outputs_no: outputs_no.mean(axis=0))
std = _plain(lambda outputs_no: outputs_no.std(axis=0))
largest = _plain(lambda outputs_no: outputs_no.max(axis=0))
smallest = _plain(lambda outputs_no: outputs_no.min(axis=0))
sparsity = _plain(lambda outputs_no: (outputs_no <= 0).mean(axis=0))


def entropy(outputs_no: np.ndarray, groups: Groups, settings: Mapping[str, int]) -> np.ndarray:
    """Take the entropy, in nats, of the histogram over each neuron's own range, in `numpy.histogram`'s exact bins."""
    bins, n_neurons = settings["bins"], outputs_no.shape[1]
    low_o, high_o = outputs_no.min(axis=0), outputs_no.max(axis=0)
    high_o = np.where(high_o > low_o, high_o, low_o + 1)
    edges_bo = np.linspace(low_o, high_o, bins + 1)
    bin_no = np.minimum(((outputs_no - low_o) / (high_o - low_o) * bins).astype(np.intp), bins - 1)
    edge_no = bin_no * n_neurons + np.arange(n_neurons)  # the bin's left edge in the flat array; also its flat number
    edge_no -= n_neurons * (outputs_no < edges_bo.take(edge_no))
    last = n_neurons * (bins - 1)
    edge_no += n_neurons * ((outputs_no >= edges_bo.take(edge_no + n_neurons)) & (edge_no < last))
    counts = np.bincount(edge_no.ravel(), minlength=n_neurons * bins)
    return np.asarray(entr(counts.reshape(bins, n_neurons) / len(outputs_no)).sum(axis=0))[:, None]


def _loadings(gram_oo: np.ndarray, n_components: int) -> np.ndarray:
    """Take eigenvectors' entries × sqrt(eigenvalue), the largest first; zeros for components that are not there."""
    n_neurons = len(gram_oo)
    wanted = (max(n_neurons - n_components, 0), n_neurons - 1)
    ascending_k, ascending_ok = eigh(gram_oo, subset_by_index=wanted, check_finite=False)
    eigenvalues_k, vectors_ok = ascending_k[::-1], ascending_ok[:, ::-1]
    eigenvalues_k = np.where(eigenvalues_k > _RANK_TOLERANCE * eigenvalues_k[0], eigenvalues_k, 0)
    magnitudes_ok = np.abs(vectors_ok)
    decides_k = (magnitudes_ok >= (1 - _TIE_TOLERANCE) * magnitudes_ok.max(axis=0)).argmax(axis=0)
    signs_k = np.sign(vectors_ok[decides_k, np.arange(vectors_ok.shape[1])])
    return _widened(vectors_ok * signs_k * np.sqrt(eigenvalues_k), n_components)


def _widened(values_ok: np.ndarray, n_columns: int) -> np.ndarray:
    return np.pad(values_ok, ((0, 0), (0, n_columns - values_ok.shape[1])))


def pca(outputs_no: np.ndarray, groups: Groups, settings: Mapping[str, int]) -> np.ndarray:
    """Take loadings on the first principal components, rows as observations; variances are those of n − 1."""
    centred_no = outputs_no - outputs_no.mean(axis=0)
    return _loadings(centred_no.T @ centred_no / max(len(outputs_no) - 1, 1), settings["components"])


def svd(outputs_no: np.ndarray, groups: Groups, settings: Mapping[str, int]) -> np.ndarray:
    """Take right singular vectors' entries × singular value / sqrt(n), of the outputs as they are."""
    return _loadings(outputs_no.T @ outputs_no / len(outputs_no), settings["components"])


def fourier(outputs_no: np.ndarray, groups: Groups, settings: Mapping[str, int]) -> np.ndarray:
    """Take the largest magnitudes / n, descending, over the rows in their order, without the mean's own frequency."""
    n_frequencies = settings["n_frequencies"]
    centred_no = outputs_no - outputs_no.mean(axis=0)
    magnitudes_fo = np.abs(np.fft.rfft(centred_no, axis=0))[1:] / len(outputs_no)
    return _widened(np.sort(magnitudes_fo, axis=0)[::-1][:n_frequencies].T, n_frequencies)


def pattern_wise(outputs_no: np.ndarray, groups: Groups, settings: Mapping[str, int]) -> np.ndarray:
    """Take the mean over each group's rows."""
    return np.asarray(groups.shares @ outputs_no).T


def clustering(outputs_no: np.ndarray, groups: Groups, settings: Mapping[str, int]) -> np.ndarray:
    """Find the centres of the best k-means of each neuron's values, ascending.

    A neuron with fewer distinct values than clusters has those, the last one repeated.
    """
    n_clusters = settings["n_clusters"]
    sorted_no = np.sort(outputs_no, axis=0)
    few_o = 1 + (sorted_no[1:] > sorted_no[:-1]).sum(axis=0) <= n_clusters
    centres_co = np.empty((n_clusters, len(few_o)))
    if few_o.any():
        centres_co[:, few_o] = _distinct_values(sorted_no[:, few_o], n_clusters)
    if not few_o.all():
        centres_co[:, ~few_o] = _best_centres(sorted_no[:, ~few_o], n_clusters)
    return centres_co.T


def _distinct_values(sorted_no: np.ndarray, n_clusters: int) -> np.ndarray:
    rank_no = np.zeros(sorted_no.shape, dtype=np.intp)
    np.cumsum(sorted_no[1:] > sorted_no[:-1], axis=0, out=rank_no[1:])
    wanted_co = np.minimum(np.arange(n_clusters)[:, None], rank_no[-1])
    first_co = np.stack([(rank_no >= wanted_o).argmax(axis=0) for wanted_o in wanted_co])
    return np.take_along_axis(sorted_no, first_co, axis=0)


def _best_centres(sorted_no: np.ndarray, n_clusters: int) -> np.ndarray:
    """Find the exact optimum by dynamic programming over where each cluster starts.

    Least squares within clusters is most of Σ sum² / size over clusters, of values about their mean.
    """
    n, n_neurons = sorted_no.shape
    mean_o = sorted_no.mean(axis=0)
    sums_no = np.concatenate([np.zeros((1, n_neurons)), np.cumsum(sorted_no - mean_o, axis=0)])
    sizes_n = np.arange(n + 1, dtype=np.float64)[:, None]
    # best_cno[c, e]: the most that c + 1 clusters reach over the first e values; start_cno: where the last one starts
    best_cno = np.full((n_clusters, n + 1, n_neurons), -np.inf)
    best_cno[0, 1:] = sums_no[1:] ** 2 / sizes_n[1:]
    start_cno = np.zeros((n_clusters, n + 1, n_neurons), dtype=np.intp)
    for end in range(2, n + 1) if n_clusters > 2 else (n,):  # for two clusters only the whole is asked for
        gain_no = (sums_no[end] - sums_no[1:end]) ** 2 / (end - sizes_n[1:end])
        reached_cno = best_cno[:-1, 1:end] + gain_no
        start_co = reached_cno.argmax(axis=1)
        best_cno[1:, end] = np.take_along_axis(reached_cno, start_co[:, None], axis=1)[:, 0]
        start_cno[1:, end] = start_co + 1
    centres_co = np.empty((n_clusters, n_neurons))
    neurons_o, end_o = np.arange(n_neurons), np.full(n_neurons, n)
    for cluster in reversed(range(n_clusters)):
        start_o = start_cno[cluster, end_o, neurons_o]
        centres_co[cluster] = (sums_no[end_o, neurons_o] - sums_no[start_o, neurons_o]) / (end_o - start_o)
        end_o = start_o
    return np.asarray(centres_co + mean_o)
