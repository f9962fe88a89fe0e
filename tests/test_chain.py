"""The whole chain on planted truths: what is there is found, what is not there is not, and leaks are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

import actlab
from actlab.formats.sentences.file import sentence_name
from actlab.formats.sentences.write import NewSentence, write_sentence

N_LAYERS, WIDTH, N_FEATURES, N_ROWS = 4, 16, 60, 3
PLANTED_LAYER, PLANTED_FEATURE = 2, 17


def write_sentences(
    folder: Path, n: int, *, seed: int, strength: float, labels: np.ndarray | None = None, n_rows: int = N_ROWS
) -> Path:
    """Sentences of noise, with a concept of known strength at one layer and one feature."""
    import scipy.sparse

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    direction = rng.standard_normal(WIDTH) / WIDTH**0.5
    labels = np.arange(n) % 4 if labels is None else labels
    for index in range(n):
        hidden = rng.standard_normal((N_LAYERS, n_rows, WIDTH))
        hidden[PLANTED_LAYER:] += strength * labels[index] * direction
        shape = (N_LAYERS, n_rows, N_FEATURES)
        latents = np.where(rng.random(shape) < 0.3, rng.exponential(1, shape), 0)
        latents[PLANTED_LAYER, :, PLANTED_FEATURE] += strength * labels[index] / 2
        fragments = [f"sentence {index} {rng.integers(10**9)} of noise"] * n_rows
        new = NewSentence(
            index=index,
            text=fragments[-1],
            label=int(labels[index]),
            fragments=fragments,
            token_positions=range(1, n_rows + 1),
            fragment_lengths=range(1, n_rows + 1),
            is_final=np.arange(n_rows) == n_rows - 1,
            embeddings_rd=rng.standard_normal((n_rows, WIDTH)),
            hidden_crd=hidden,
            layers=range(N_LAYERS),
            average_l0s=[18] * N_LAYERS,
            latents=scipy.sparse.csr_array(latents.reshape(-1, N_FEATURES)),
        )
        with (folder / sentence_name(index)).open("wb") as file:
            write_sentence(file, new, sparse=True, dtype="float32")
    return folder


LOOSE = {"min_pearson": -1.0, "min_tpr": 0.0, "max_fpr": 1.0, "plots": False, "quiet": True}


def probe(output: Path, dataset: Path, **settings) -> dict:
    done = actlab.train_probe(input=dataset, output=output, plots=False, quiet=True, **settings)
    return done.results


def test_a_planted_concept_is_found_at_its_layer_and_feature(tmp_path):
    folder = write_sentences(tmp_path / "in", 160, seed=0, strength=2.0)
    split = actlab.make_split(input=folder, output=tmp_path / "splits.json").path
    ranked = actlab.rank_features(input=folder, split=split, output=tmp_path / "ranking", plots=False)
    assert (ranked.features[0].layer, ranked.features[0].feature_id) == (PLANTED_LAYER, PLANTED_FEATURE)
    aurocs = []
    for layer in range(N_LAYERS):
        dataset = tmp_path / f"h{layer}.npz"
        actlab.generate_datasets(strategy="hidden-to-concept", input=folder, layer=layer, split=split, output=dataset)
        results = probe(tmp_path / f"probe{layer}", dataset)
        assert results["held_out"] is True
        aurocs.append(results["test_roc_auc"])
    assert max(aurocs[:PLANTED_LAYER]) < 0.65
    assert min(aurocs[PLANTED_LAYER:]) > 0.75
    (concept,) = actlab.generate_datasets(
        strategy="feature-to-concept",
        input=folder,
        features_from=tmp_path / "ranking" / "ranked_features.csv",
        split=split,
        output=tmp_path / "f.npz",
    )
    results = probe(tmp_path / "probe_f", concept.path)
    assert results["held_out"] is True
    assert results["test_roc_auc"] > 0.7


def test_on_noise_the_chain_finds_nothing_and_the_leaky_way_round_it_is_refused(tmp_path):
    n_with_half, leaky = 0, []
    for seed in range(20):
        root = tmp_path / str(seed)
        labels = np.random.default_rng(1000 + seed).permutation(np.arange(48) % 2)
        folder = write_sentences(root / "in", 48, seed=seed, strength=0.0, labels=labels, n_rows=1)
        split = actlab.make_split(input=folder, output=root / "splits.json", test_size=0.4, seed=seed).path
        intervals = {}
        ways = {"held out": {"split": split}} | ({"leaky": {}} if seed < 6 else {})
        for name, given in ways.items():
            ranking = actlab.rank_features(input=folder, output=root / f"ranking {name}", top=20, **LOOSE, **given)
            (made,) = actlab.generate_datasets(
                strategy="feature-to-concept",
                input=folder,
                features_from=ranking.path / "ranked_features.csv",
                top=20,
                split=split,
                output=root / f"{name}.npz",
                quiet=True,
            )
            intervals[name] = made.path
        results = probe(root / "probe", intervals["held out"])
        assert results["held_out"] is True
        low, high = results["test_roc_auc_interval"]
        n_with_half += low <= 0.5 <= high
        if "leaky" in intervals:
            with pytest.raises(actlab.ActlabError, match=r"all rows|chose|held out"):
                probe(root / "leaky", intervals["leaky"])
            results = probe(root / "leaky", intervals["leaky"], allow_leak=True)
            assert results["held_out"] is False
            leaky.append(results["test_roc_auc"])
    assert n_with_half >= 16
    assert np.mean(leaky) > 0.75, "so the refusal matters"


def test_near_duplicates_are_one_group_in_the_probe_too(tmp_path):
    texts = [f"sentence {k // 2} speaks of things that {'abcdefghij'[k // 2 % 10] * 9} alone do" for k in range(80)]
    rng = np.random.default_rng(0)
    path = tmp_path / "s.csv"
    path.write_text(
        "sentence,concept_strength_label\n" + "".join(f"{text} {k % 2},{k % 2}\n" for k, text in enumerate(texts))
    )
    split = actlab.make_split(input=path, output=tmp_path / "splits.json", near_duplicates=0.6)
    assert split.splits.group_of
    actlab.save_dataset(
        rng.standard_normal((80, 3)), np.arange(80) % 2, {"sentence_indices": np.arange(80)}, tmp_path / "d.npz"
    )
    results = probe(tmp_path / "probe", tmp_path / "d.npz", split=split.path)
    assert results["n_groups"] == len({split.splits.group_of.get(k, k) for k in range(80)}) < 80


def test_rows_of_one_sentence_never_straddle_the_split(tmp_path):
    folder = write_sentences(
        tmp_path / "in", 40, seed=0, strength=0.0, labels=np.random.default_rng(0).integers(0, 2, 40)
    )
    split = actlab.make_split(input=folder, output=tmp_path / "splits.json").path
    (made,) = actlab.generate_datasets(
        strategy="hidden-to-concept", input=folder, layer=1, rows="all", split=split, output=tmp_path / "o.npz"
    )
    metadata = actlab.load_dataset(made.path).metadata
    sides = {}
    for index, side in zip(metadata["sentence_indices"], metadata["split"], strict=True):
        assert sides.setdefault(int(index), side) == side
    assert set(sides.values()) == {"train", "test"}


def test_a_probe_on_scaled_and_one_on_raw_columns_have_the_same_weights_for_raw_activations(tmp_path):
    folder = write_sentences(tmp_path / "in", 80, seed=1, strength=4.0, labels=np.arange(80) % 2)
    found = []
    for normalize in ("standardize", "minmax", "none"):
        (made,) = actlab.generate_datasets(
            strategy="hidden-to-concept",
            input=folder,
            layer=3,
            normalize=normalize,
            output=tmp_path / f"{normalize}.npz",
        )
        probe(tmp_path / normalize, made.path)
        weights = json.loads((tmp_path / normalize / "probe.json").read_text())
        found.append(np.append(np.ravel(weights["weight"]), np.ravel(weights["intercept"])))
    X, y, _ = actlab.load_dataset(tmp_path / "none.npz")
    for weights in found:
        np.testing.assert_allclose(weights, found[-1], rtol=1e-2, atol=1e-3)
        assert ((X @ weights[:-1] + weights[-1] > 0) == y).mean() > 0.9
