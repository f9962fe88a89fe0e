"""Encoding equals the written-out formula of each architecture; what cannot be encoded rightly is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from safetensors.torch import load_file, save_file

from actlab.backends.saes.find import Encoders, find_saes, weights_of
from actlab.backends.saes.sae import encode, explained_variance, reconstruct
from actlab.ground.errors import ActlabError
from tests.made_saes import (
    ARCHITECTURES,
    D_IN,
    N_FEATURES,
    mirror_weights,
    random_weights,
    write_gemma_scope,
    write_saelens,
)

CPU = torch.device("cpu")


def by_hand(architecture: str, weights: dict, x: np.ndarray, *, centered: bool, k: int = 5) -> np.ndarray:
    """One row and one feature at a time, in plain Python on float64."""
    w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
    rows = []
    for row in np.asarray(x, dtype=np.float64):
        z = [sum((row[i] - (w["b_dec"][i] if centered else 0)) * w["W_enc"][i, f] for i in range(len(row)))
             for f in range(w["W_enc"].shape[1])]  # fmt: skip
        out = [0.0] * len(z)
        if architecture == "gated":
            for f in range(len(z)):
                if z[f] + w["b_gate"][f] > 0:
                    out[f] = max(z[f] * np.exp(w["r_mag"][f]) + w["b_mag"][f], 0.0)
            rows.append(out)
            continue
        pre = [z[f] + w["b_enc"][f] for f in range(len(z))]
        if architecture == "standard":
            kept = range(len(z))
        elif architecture == "topk":
            kept = sorted(range(len(z)), key=lambda f: -pre[f])[:k]
        else:
            threshold = np.broadcast_to(w["threshold"], len(z))
            kept = [f for f in range(len(z)) if pre[f] > threshold[f]]
        for f in kept:
            out[f] = max(pre[f], 0.0)
        rows.append(out)
    return np.array(rows)


def activations(folder: Path, x: np.ndarray, **options) -> np.ndarray:
    (sae,) = find_saes([str(folder)], **options)
    return encode(Encoders([sae], CPU).get(sae), torch.from_numpy(x)).numpy()


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((6, D_IN)).astype(np.float32) * 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("centered", [True, False])
def test_each_architecture_is_its_formula(architecture, centered, x, tmp_path):
    weights = random_weights(architecture)
    folder = write_saelens(tmp_path / "sae", architecture, 3, weights, apply_b_dec_to_input=centered)
    got = activations(folder, x)
    expected = by_hand(architecture, weights, x, centered=centered)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert 0 < (got > 0).mean() < 0.9
    alone = np.concatenate([activations(folder, row[None]) for row in x])
    np.testing.assert_allclose(alone, got, rtol=1e-5, atol=1e-6, err_msg="a row depends on no other")


def test_gemma_scope_does_not_center_its_input(x, tmp_path):
    for compressed in (False, True):
        folder = write_gemma_scope(tmp_path / str(compressed), 12, 82, compressed=compressed)
        got = activations(folder, x)
        expected = by_hand("jumprelu", random_weights("jumprelu", seed=12), x, centered=False)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_case_by_hand(tmp_path):
    weights = {
        "W_enc": torch.ones(2, 3),
        "W_dec": torch.ones(3, 2),
        "b_enc": torch.zeros(3),
        "b_dec": torch.zeros(2),
        "threshold": torch.tensor([1, 0.5, 0.25]),
    }
    x = np.array([[0.3, 0.3]], np.float32)
    for folder in (
        write_gemma_scope(tmp_path / "gemma", 0, 2, weights),
        write_saelens(tmp_path / "lens", "jumprelu", 0, weights),
    ):
        np.testing.assert_allclose(activations(folder, x), [[0, 0.6, 0.6]], rtol=1e-6)


def test_a_value_at_the_threshold_does_not_fire(tmp_path):
    weights = {name: torch.zeros(1, 1) for name in ("W_enc", "W_dec")} | {
        name: torch.full((1,), value) for name, value in (("b_enc", 0.5), ("b_dec", 0.0), ("threshold", 0.5))
    }
    assert activations(write_gemma_scope(tmp_path, 0, 1, weights), np.ones((1, 1), np.float32)).item() == 0


def test_inputs_are_normalised_as_the_config_says(x, tmp_path):
    weights = random_weights("standard")
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    inputs = {
        "constant_norm_rescale": x * np.sqrt(D_IN) / norm,
        "layer_norm": (x - x.mean(1, keepdims=True)) / (x.std(1, ddof=1, keepdims=True) + 1e-5),
        "expected_average_only_in": x * 0.25,
    }
    for name, normalised in inputs.items():
        folder = write_saelens(tmp_path / name, "standard", 0, weights, normalize_activations=name)
        scale = {"input_scale": 0.25} if name == "expected_average_only_in" else {}
        expected = by_hand("standard", weights, normalised, centered=True)
        np.testing.assert_allclose(activations(folder, x, **scale), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ActlabError, match="a factor that is not in the folder"):
        find_saes([str(tmp_path / "expected_average_only_in")])


def test_topk_may_weigh_by_the_decoders_norms(x, tmp_path):
    weights = random_weights("topk")
    folder = write_saelens(tmp_path / "sae", "topk", 0, weights, rescale_acts_by_decoder_norm=True)
    norms = weights["W_dec"].norm(dim=1)
    scaled = weights | {"W_enc": weights["W_enc"] * norms, "b_enc": weights["b_enc"] * norms}
    expected = by_hand("topk", scaled, x, centered=True)
    np.testing.assert_allclose(activations(folder, x), expected, rtol=1e-4, atol=1e-4)


def test_configs_from_before_version_6_are_read(x, tmp_path):
    weights = random_weights("topk")
    folder = write_saelens(tmp_path / "sae", "topk", 0, weights)
    old = {
        "architecture": "standard",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 5},
        "d_in": D_IN,
        "d_sae": N_FEATURES,
        "hook_point": "blocks.7.hook_resid_post",
        "normalize_activations": False,
        "apply_b_dec_to_input": True,
    }
    (folder / "cfg.json").write_text(json.dumps(old))
    (sae,) = find_saes([str(folder)])
    assert (sae.layer, sae.architecture, sae.k, sae.average_l0) == (7, "topk", 5, 5)
    np.testing.assert_allclose(activations(folder, x), by_hand("topk", weights, x, centered=True), rtol=1e-4, atol=1e-5)


def test_a_neuronpedia_link_is_known_for_the_hosted_sae_alone(tmp_path):
    root = tmp_path / "google" / "gemma-scope-2b-pt-res"
    for l0 in (82, 22):
        write_gemma_scope(root, 12, l0)
    write_gemma_scope(tmp_path / "mine", 13, 84)
    found = {(sae.layer, sae.average_l0): sae.neuronpedia_id for sae in find_saes([str(root), str(tmp_path / "mine")])}
    assert found == {(12, 22): None, (12, 82): "gemma-2-2b/12-gemmascope-res-16k", (13, 84): None}


@pytest.mark.parametrize(
    ("repository", "reads"),
    [
        ("gemma-scope-2b-pt-mlp", "the MLP's output"),
        ("gemma-scope-9b-pt-att", "the attention's output"),
        ("gemma-scope-2b-pt-transcoders", "the MLP's input, as transcoders do"),
        ("models--google--gemma-scope-2b-pt-transcoders/snapshots/bf9e34b0e3", "the MLP's input, as transcoders do"),
        ("gemma-scope-2-4b-it/attn_out_all", "the attention's output"),
        ("my_transcoders", "the MLP's input, as transcoders do"),
    ],
)
def test_gemma_scope_of_another_place_is_refused_by_name(repository, reads, tmp_path):
    write_gemma_scope(tmp_path / repository, 3, 10)
    (tmp_path / "innocent").symlink_to(tmp_path / repository)
    for folder in (tmp_path / repository, tmp_path / "innocent", tmp_path / repository / "layer_3"):
        with pytest.raises(ActlabError, match=rf"reads {reads}, which is not the output of a block") as error:
            find_saes([str(folder)])
        assert "hook_resid_post" in error.value.hint


def test_gemma_scope_of_the_residual_stream_is_read_whatever_stands_above_it(tmp_path):
    for above in ("mlp/gemma-scope-2b-pt-res", "attention-study/mine", "gemma-scope-2-4b-it/resid_post_all"):
        write_gemma_scope(tmp_path / above, 12, 82)
        (sae,) = find_saes([str(tmp_path / above)])
        assert (sae.layer, sae.average_l0) == (12, 82)


def test_embedding_saes_are_passed_over_and_refused_where_they_are_named(tmp_path):
    root = tmp_path / "layer_3" / "gemma-scope-2b-pt-res"
    write_gemma_scope(root, 12, 82)
    embedding = write_gemma_scope(tmp_path / "other", 0, 6)
    shutil.move(embedding, root / "embedding" / "width_4k" / "average_l0_6")
    (sae,) = find_saes([str(root)])
    assert sae.layer == 12, "the folder next to the weights says it, none above"
    with pytest.raises(ActlabError, match="reads the embedding, which is not the output of a block"):
        find_saes([str(root / "embedding")])


@pytest.mark.parametrize(
    ("names", "layer"),
    [
        ({"hook_name": "blocks.3.hook_resid_post", "hook_layer": 3}, 3),
        ({"hook_name": "blocks.3.hook_resid_pre", "hook_layer": 3, "hook_head_index": None}, 2),
        ({"hook_name": "blocks.3.hook_out"}, 3),
        ({"hook_name": "blocks.3.hook_in"}, 2),
        ({"hook_name": "model.layers.3"}, 3),
        ({"hook_name": "model.layers.3", "hook_name_out": "blocks.3.hook_resid_post"}, 3),
        ({"hook_name": "transformer.h.11"}, 11),
        ({"hook_name": "gpt_neox.layers.0"}, 0),
        ({"hook_name": "model.language_model.layers.25"}, 25),
        ({"hook_name": "blocks.3.hook_resid_post", "hf_hook_name": "model.layers.3.output"}, 3),
        ({"hook_name": "blocks.3.hook_resid_pre", "hf_hook_name": "model.layers.2"}, 2),
        ({"hf_hook_name": "model.layers.4.input"}, 3),
    ],
)
def test_every_name_of_a_blocks_output_is_read_there_whatever_the_folder_is_called(names, layer, tmp_path):
    folder = write_saelens(tmp_path / "mlp_out" / "layer_07", "topk", 3, metadata=names)
    (sae,) = find_saes([str(folder)])
    assert sae.layer == layer
    flat = json.loads((folder / "cfg.json").read_text())
    old = {key.replace("hook_name", "hook_point") if key == "hook_name" else key: names[key] for key in names}
    (folder / "cfg.json").write_text(json.dumps({key: flat[key] for key in flat if key != "metadata"} | old))
    (sae,) = find_saes([str(folder)])
    assert sae.layer == layer, "before version 6 the names stood at the top"


@pytest.mark.parametrize(
    "hook",
    [
        "blocks.0.hook_resid_pre",
        "blocks.3.hook_resid_mid",
        "blocks.3.hook_mlp_out",
        "blocks.3.hook_mlp_in",
        "blocks.3.hook_attn_out",
        "blocks.3.attn.hook_z",
        "blocks.3.ln2.hook_normalized",
        "blocks.3.mlp.hook_post",
        "hook_embed",
        "model.layers.3.mlp",
        "model.layers.3.self_attn.o_proj.input",
        "model.layers.3.post_feedforward_layernorm.output",
        "model.vision_tower.encoder.layers.3",
        "model.layers.0.input",
    ],
)
def test_an_sae_of_another_place_is_refused_by_name_whatever_the_folder_is_called(hook, tmp_path):
    folder = write_saelens(tmp_path / "gemma-scope-res" / "blocks.3.hook_resid_post", "topk", 3)
    for names in (
        {"hook_name": hook},
        {"hf_hook_name": hook},
        {"hook_name": "blocks.3.hook_resid_post", "hf_hook_name": hook},
    ):
        change(folder, metadata=names)
        with pytest.raises(ActlabError) as error:
            find_saes([str(folder)])
        assert f"reads {hook}, which is not the output of a block" in str(error.value)
        assert "hook_resid_post" in error.value.hint


TRANSCODERS = {
    "architecture": (lambda folder: change(folder, architecture="jumprelu_transcoder")),
    "skip": (lambda folder: change(folder, architecture="skip_transcoder")),
    "hook_name_out": (lambda folder: name(folder, hook_name_out="blocks.3.hook_mlp_out")),
    "another layer's output": (lambda folder: name(folder, hook_name_out="blocks.4.hook_resid_post")),
    "d_out": (lambda folder: change(folder, d_out=D_IN + 1)),
    "W_dec": (lambda folder: weigh(folder, W_dec=torch.ones(N_FEATURES, D_IN + 1))),
    "W_skip": (lambda folder: weigh(folder, W_skip=torch.ones(D_IN, D_IN))),
}


@pytest.mark.parametrize("sign", TRANSCODERS)
def test_a_transcoder_is_refused_by_any_of_its_signs(sign, tmp_path):
    folder = write_saelens(tmp_path / "sae", "jumprelu", 3)
    assert len(find_saes([str(folder)])) == 1
    TRANSCODERS[sign](folder)
    with pytest.raises(ActlabError, match=r"reads blocks.3.hook_resid_post and writes .*: it is a transcoder, no SAE"):
        find_saes([str(folder)])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"hook_layer": 5}, "names two places: blocks.3.hook_resid_post and layer 5"),
        ({"hf_hook_name": "model.layers.5"}, "names two places: blocks.3.hook_resid_post and model.layers.5"),
        ({"hook_head_index": 2}, "reads attention heads"),
        ({"reshape_activations": "hook_z"}, "reads attention heads"),
    ],
)
def test_a_config_that_does_not_agree_with_itself_is_refused(names, says, tmp_path):
    folder = write_saelens(tmp_path / "layer_3", "topk", 3)
    name(folder, **names)
    with pytest.raises(ActlabError, match=says):
        find_saes([str(folder)])


def test_a_config_that_names_two_places_at_its_two_levels_is_refused(tmp_path):
    folder = write_saelens(tmp_path / "layer_3", "topk", 3)
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config | {"hook_name": "blocks.1.hook_resid_post"}))
    with pytest.raises(ActlabError, match=r"names two places: blocks\.3\S* and blocks\.1"):
        find_saes([str(folder)])


def back_by_hand(facts, weights: dict, x: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """SAELens' decode, one row at a time, in float64."""
    w = {key: np.asarray(value, dtype=np.float64) for key, value in weights.items()}
    rows = []
    for row, fired in zip(np.asarray(x, dtype=np.float64), np.asarray(latents, dtype=np.float64), strict=True):
        out = w["b_dec"].copy()
        for f, value in enumerate(fired):
            length = np.sqrt((w["W_dec"][f] ** 2).sum()) if facts.rescale_by_decoder_norm else 1.0
            out += value / length * w["W_dec"][f]
        if facts.input_norm == "constant_norm_rescale":
            out *= np.sqrt((row**2).sum()) / np.sqrt(len(row))
        elif facts.input_norm == "layer_norm":
            mean = row.sum() / len(row)
            out = out * np.sqrt(((row - mean) ** 2).sum() / (len(row) - 1)) + mean
        elif facts.input_norm == "expected_average_only_in":
            out /= facts.input_scale
        rows.append(out)
    return np.array(rows)


@pytest.mark.parametrize("norm", ["none", "constant_norm_rescale", "layer_norm", "expected_average_only_in"])
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        *((architecture, {"apply_b_dec_to_input": centered}) for architecture in ARCHITECTURES for centered in (0, 1)),
        ("topk", {"rescale_acts_by_decoder_norm": True}),
        ("batchtopk", {"rescale_acts_by_decoder_norm": True}),
    ],
)
def test_the_explained_variance_is_of_the_input_as_the_model_gives_it(architecture, options, norm, x, tmp_path):
    weights = random_weights(architecture)
    options = {key: bool(value) for key, value in options.items()} | {"normalize_activations": norm}
    folder = write_saelens(tmp_path / "sae", architecture, 0, weights, **options)
    (sae,) = find_saes([str(folder)], input_scale=0.25 if norm == "expected_average_only_in" else None)
    latents = encode(Encoders([sae], CPU).get(sae), torch.from_numpy(x)).numpy()
    back = back_by_hand(sae, weights, x, latents)
    expected = 1 - ((x - back) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    sparse = scipy.sparse.csr_array(latents)
    np.testing.assert_allclose(reconstruct(sae, weights_of(sae), x, sparse), back, rtol=1e-4, atol=1e-4)
    assert explained_variance(sae, weights_of(sae), x, sparse) == pytest.approx(expected, abs=1e-4, rel=1e-4)


def test_an_attention_sink_does_not_speak_for_the_other_rows(x, tmp_path):
    (sae,) = find_saes([str(write_saelens(tmp_path / "sae", "standard", 0, mirror_weights()))])
    other = np.concatenate([np.roll(x, 1, axis=1), np.zeros((1, D_IN))])
    other[-1, 0] = 1e4
    with_sink = np.concatenate([x, other[-1:]]).astype(np.float32)
    latents = scipy.sparse.csr_array(np.concatenate([other, -other], axis=1).clip(0).astype(np.float32))
    assert 1 - ((with_sink - other) ** 2).sum() / ((with_sink - with_sink.mean(0)) ** 2).sum() > 0.99
    assert explained_variance(sae, weights_of(sae), with_sink, latents) < 0


def test_equal_rows_have_no_variance_to_explain(x, tmp_path):
    (sae,) = find_saes([str(write_saelens(tmp_path / "sae", "standard", 0, mirror_weights()))])
    rows = np.ones((40, D_IN), np.float32)
    latents = scipy.sparse.csr_array(np.concatenate([rows, 0 * rows], axis=1))
    assert explained_variance(sae, weights_of(sae), rows, latents) is None


@pytest.mark.parametrize(
    ("weight", "says"),
    [(torch.ones(3, D_IN), r"W_dec is \[3, 32\]"), (torch.full((N_FEATURES, D_IN), torch.nan), "NaN")],
)
def test_a_damaged_decoder_is_named(weight, says, x, tmp_path):
    folder = write_saelens(tmp_path / "sae", "standard", 0)
    (sae,) = find_saes([str(folder)])
    weigh(folder, W_dec=weight)
    latents = scipy.sparse.csr_array(np.eye(6, N_FEATURES, dtype=np.float32))
    with pytest.raises(ActlabError, match=says):
        explained_variance(sae, weights_of(sae), x, latents)


def test_batchtopk_may_weigh_by_the_decoders_norms(x, tmp_path):
    weights = random_weights("batchtopk")
    folder = write_saelens(tmp_path / "sae", "batchtopk", 0, weights, rescale_acts_by_decoder_norm=True)
    norms = weights["W_dec"].norm(dim=1)
    scaled = weights | {"W_enc": weights["W_enc"] * norms, "b_enc": weights["b_enc"] * norms}
    np.testing.assert_allclose(
        activations(folder, x), by_hand("batchtopk", scaled, x, centered=True), rtol=1e-4, atol=1e-4
    )


def test_a_folder_on_the_hub_is_fetched_and_nothing_besides_it(x, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []
    snapshot = tmp_path / "models--google--gemma-scope-2b-pt-res" / "snapshots" / "abc"
    write_gemma_scope(snapshot, 12, 82)

    def fake(name, *, revision, allow_patterns, ignore_patterns):
        asked.append((name, allow_patterns, ignore_patterns))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    (sae,) = find_saes(["google/gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82"])
    assert asked == [("google/gemma-scope-2b-pt-res", ["layer_12/width_16k/average_l0_82/*"], None)]
    assert (sae.layer, sae.average_l0) == (12, 82)
    with pytest.raises(ActlabError, match="has no folder layer_99"):
        find_saes(["google/gemma-scope-2b-pt-res/layer_99"])
    for name in ("google/gemma-scope-2b-pt-res", "../up/one/two", "no/../such/folder"):
        with pytest.raises(ActlabError):
            find_saes([name])


def test_where_memory_is_short_one_encoder_is_kept_and_the_numbers_are_the_same(x, tmp_path, monkeypatch):
    from actlab.backends.saes import find

    for layer in (0, 1):
        write_gemma_scope(tmp_path, layer, 5)
    saes = find_saes([str(tmp_path)])
    rich = Encoders(saes, CPU)
    expected = [encode(rich.get(sae), torch.from_numpy(x)) for sae in saes]
    monkeypatch.setattr(find, "_bytes_free", lambda device: 2 * saes[0].bytes_of_encoder)
    poor = Encoders(saes, CPU)
    for sae, truth in zip(saes, expected, strict=True):
        assert torch.equal(encode(poor.get(sae), torch.from_numpy(x)), truth)
        assert len(poor._loaded) == 1
    assert len(rich._loaded) == 2


BAD = {
    "no such folder": (lambda folder: shutil.rmtree(folder), "no folder"),
    "no SAE inside": (lambda folder: (folder / "cfg.json").unlink(), "holds no SAE"),
    "no weights": (lambda folder: (folder / "sae_weights.safetensors").unlink(), "has no sae_weights.safetensors"),
    "cut weights": (lambda folder: cut(folder / "sae_weights.safetensors"), "cannot read"),
    "bad JSON": (lambda folder: (folder / "cfg.json").write_text("{"), "not JSON"),
    "a list": (lambda folder: (folder / "cfg.json").write_text("[]"), "no SAELens config"),
    "another hook": (lambda folder: change(folder, metadata={"hook_name": "blocks.3.hook_mlp_out"}), "not the output"),
    "no hook": (lambda folder: change(folder, metadata={}), "names no hook_name"),
    "unknown architecture": (lambda folder: change(folder, architecture="temporal"), "does not read the architecture"),
    "unknown norm": (lambda folder: change(folder, normalize_activations="whiten"), "normalize_activations 'whiten'"),
    "wrong d_sae": (lambda folder: change(folder, d_sae=7), r"is \[32, 48\], and not \[32, 7\]"),
    "k over d_sae": (lambda folder: change(folder, architecture="topk", k=5000), "k is 5000"),
    "k is a fraction": (lambda folder: change(folder, architecture="topk", k=16.5), "no whole number"),
    "a flag is text": (lambda folder: change(folder, apply_b_dec_to_input="false"), "neither true nor false"),
    "d_in is text": (lambda folder: change(folder, d_in="32"), "no number for d_in"),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def change(folder: Path, **values) -> None:
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def name(folder: Path, **values) -> None:
    change(folder, metadata=json.loads((folder / "cfg.json").read_text())["metadata"] | values)


def weigh(folder: Path, **weights) -> None:
    path = folder / "sae_weights.safetensors"
    save_file(load_file(path) | weights, path)


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_encoded_rightly_is_refused(name, x, tmp_path):
    spoil, says = BAD[name]
    folder = write_saelens(tmp_path / "sae", "jumprelu", 3)
    spoil(folder)
    with pytest.raises(ActlabError, match=says) as error:
        activations(folder, x)
    assert error.value.hint


def test_a_threshold_that_was_never_calibrated_is_refused(x, tmp_path):
    weights = random_weights("batchtopk") | {"threshold": torch.tensor(-1.0)}
    with pytest.raises(ActlabError, match="never calibrated"):
        activations(write_saelens(tmp_path / "sae", "batchtopk", 0, weights), x)


def test_a_damaged_params_file_is_refused(x, tmp_path):
    path = write_gemma_scope(tmp_path, 0, 2) / "params.npz"
    cut(path)
    with pytest.raises(ActlabError, match=r"cannot read .*params.npz"):
        activations(tmp_path, x)


def test_a_file_of_an_sae_stands_for_its_folder_and_any_other_file_for_none(tmp_path):
    lens, gemma = write_saelens(tmp_path / "one", "topk", 3), write_gemma_scope(tmp_path / "two", 1, 10)
    for folder, names in ((lens, ("cfg.json", "sae_weights.safetensors")), (gemma, ("params.npz",))):
        assert {sae.path.parent for name in names for sae in find_saes([str(folder / name)])} == {folder}
    (lens / "README.md").write_text("an SAE")
    with pytest.raises(ActlabError, match="holds no SAE"):
        find_saes([str(lens / "README.md")])


def test_two_saes_that_nothing_tells_apart_are_refused(tmp_path):
    for name in ("one", "two"):
        write_saelens(tmp_path / name, "topk", 3)
    with pytest.raises(ActlabError, match="two SAEs of layer 3"):
        find_saes([str(tmp_path)])


ORACLE = """
import sys, json, numpy as np, torch
from sae_lens import SAE
folders, x, out = json.loads(sys.argv[1]), torch.from_numpy(np.load(sys.argv[2])), sys.argv[3]
made, told = {}, []
for k, folder in enumerate(folders):
    sae = SAE.load_from_disk(folder, device="cpu")
    told.append(dict(sae.cfg.metadata.items()))
    with torch.no_grad():
        made[str(k)] = sae.encode(x).numpy()
        made[f"back {k}"] = sae(x).numpy()
np.savez(out, told=json.dumps(told), **made)
"""


@pytest.mark.slow
def test_saelens_itself_encodes_the_same_and_loads_what_train_sae_wrote(x, tmp_path, write_rows):
    """SAELens lives in an environment of its own, made here: it brings a hundred packages."""
    import actlab
    from tests.conftest import make_rows
    from tests.tiny import make_model

    model = make_model(tmp_path / "tiny-llama")
    folders = [
        write_saelens(tmp_path / architecture, architecture, 0, random_weights(architecture))
        for architecture in ("standard", "jumprelu", "topk", "gated")
    ]
    for norm in ("layer_norm", "constant_norm_rescale"):
        folders.append(write_saelens(tmp_path / norm, "standard", 0, normalize_activations=norm))
    folders.append(write_saelens(tmp_path / "rescaled", "topk", 0, rescale_acts_by_decoder_norm=True))
    for architecture in ("topk", "jumprelu"):
        trained = actlab.train_sae(
            input=write_rows(make_rows(30)),
            model=model,
            layers="1",
            architecture=architecture,
            n_features=N_FEATURES,
            k=4,
            n_steps=30,
            batch_size=64,
            output=tmp_path / f"trained-{architecture}",
        )
        folders.append(trained.path / "layer_01")
    np.save(tmp_path / "x.npy", x)
    venv = tmp_path / "venv"
    constraints = Path(__file__).parent.parent / "constraints.txt"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin/pip", "install", "-q", "-c", constraints, "sae-lens"], check=True)
    arguments = [json.dumps([str(folder) for folder in folders]), tmp_path / "x.npy", tmp_path / "oracle.npz"]
    subprocess.run([venv / "bin/python", "-c", ORACLE, *map(str, arguments)], check=True)
    with np.load(tmp_path / "oracle.npz") as oracle:
        for place, folder in enumerate(folders):
            latents = activations(folder, x)
            np.testing.assert_allclose(latents, oracle[str(place)], rtol=1e-4, atol=1e-5)
            (sae,) = find_saes([str(folder)])
            back = reconstruct(sae, weights_of(sae), x, scipy.sparse.csr_array(latents))
            np.testing.assert_allclose(back, oracle[f"back {place}"], rtol=1e-4, atol=1e-4)
        told = json.loads(str(oracle["told"]))
    for metadata in told[-2:]:
        assert (metadata["model_name"], metadata["hook_name"]) == ("tiny-llama", "blocks.1.hook_resid_post")
        assert metadata["prepend_bos"] is True
        assert metadata["average_l0"] >= 1
