"""Sentence files hold what a slow forward pass of each sentence and layer gives; kill it, part it: the same bytes."""

import contextlib
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import actlab
from actlab.backends.saes.find import find_saes
from actlab.features.encode import job as encode_job
from actlab.features.train_sae import compute as sae_training
from actlab.features.train_sae.compute import Step
from actlab.ground.errors import DataError
from actlab.ground.options import identity_of
from tests import tiny
from tests.command_line import fails_in_two_lines, new_processes, run
from tests.fabricated import write_folder
from tests.folders import hashes
from tests.made_saes import mirror_weights, random_weights, write_gemma_scope, write_saelens
from tests.test_saes import by_hand

SENTENCES = [
    ("the old man walks to the market and buys bread", 0),
    ("a careful answer checks what it says", 1),
    ("it rains.", 2),
    ("how do I clean a window without streaks? naïve café ☕", 3),
    ("the river rises over the meadow in spring", 1.5),
]


def write_csv(path: Path, rows: list[tuple[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "concept_strength_label"])
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def saes(tmp_path_factory) -> Path:
    """A JumpReLU SAE of layer 1 and a standard one of layer 3, random."""
    root = tmp_path_factory.mktemp("saes")
    weights = random_weights("jumprelu", seed=1, d_in=tiny.WIDTH)
    write_gemma_scope(root, 1, 10, weights)
    write_saelens(root / "three", "standard", 3, random_weights("standard", seed=3, d_in=tiny.WIDTH))
    return root


@pytest.fixture
def sentences(tmp_path) -> Path:
    return write_csv(tmp_path / "sentences.csv", SENTENCES)


def compute(sentences, saes, model, output, **settings):
    return actlab.compute_features(
        input=sentences, sae=saes, model=model, output=output, quiet=True, **({"l0_check": "off"} | settings)
    )


def slow_way(model: Path, saes: Path, text: str) -> dict[str, np.ndarray]:
    """One forward pass a layer, alone; SAEs by the written-out formula."""
    network = tiny.transformers.AutoModel.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = tiny.transformers.AutoTokenizer.from_pretrained(model)
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    hidden, latents = [], []
    weights = {1: random_weights("jumprelu", seed=1, d_in=tiny.WIDTH), 3: random_weights("standard", 3, tiny.WIDTH)}
    for layer, architecture, centered in ((1, "jumprelu", False), (3, "standard", True)):
        seen = []
        hook = network.layers[layer].register_forward_hook(
            lambda module, inputs, output, seen=seen: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        with torch.no_grad():
            network(torch.tensor([ids]))
        hook.remove()
        rows = seen[0].reshape(len(ids), -1)[1:].numpy()
        hidden.append(rows)
        latents.append(by_hand(architecture, weights[layer], rows, centered=centered))
    table = network.get_input_embeddings().weight.detach().numpy()
    return {"embeddings": table[ids[1:]], "hidden_states": np.stack(hidden), "activations": np.stack(latents)}


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2"])
def test_the_files_hold_what_one_forward_a_sentence_and_layer_gives(family, saes, sentences, tmp_path):
    model = tiny.make_model(tmp_path / "model", family)
    done = compute(sentences, saes, model, tmp_path / "out")
    assert done.n_sentences == 5
    for index, (text, label) in enumerate(SENTENCES):
        expected = slow_way(model, saes, text)
        with np.load(tmp_path / "out" / f"sentence_{index + 1:06d}.npz", allow_pickle=False) as file:
            for key, values in expected.items():
                error = np.abs(file[key] - values).max() / np.abs(values).max()
                assert error < 1e-5, (key, error)
            assert file["concept_strength_label"] == label
            assert file["sentence_index"] == index
            assert str(file["sentence"]) == text


def test_the_files_have_the_documents_keys_and_shapes(llama, saes, sentences, tmp_path):
    compute(sentences, saes, llama, tmp_path / "out")
    tokenizer = tiny.transformers.AutoTokenizer.from_pretrained(llama)
    for index, (text, _) in enumerate(SENTENCES):
        with np.load(tmp_path / "out" / f"sentence_{index + 1:06d}.npz", allow_pickle=False) as file:
            n = len(tokenizer(text)["input_ids"]) - 1
            shapes = {
                **dict.fromkeys(
                    ("sentence", "concept_strength_label", "sentence_index", "num_features", "hidden_dim"), ()
                ),
                **dict.fromkeys(("fragments", "token_positions", "is_final_token", "fragment_lengths"), (n,)),
                "layers": (2,),
                "average_l0s": (2,),
                "embeddings": (n, tiny.WIDTH),
                "hidden_states": (2, n, tiny.WIDTH),
                "activations": (2, n, 48),
            }
            assert {key: file[key].shape for key in file.files} == shapes
            assert file["is_final_token"].tolist() == [False] * (n - 1) + [True]
            assert file["token_positions"].tolist() == list(range(1, n + 1))
            fragments = file["fragments"].tolist()
            assert fragments[-1] == text
            assert all(text.startswith(fragment) for fragment in fragments), "offsets, not decoded pieces"
            assert file["layers"].tolist() == [1, 3]
            assert file["average_l0s"].tolist() == [10, -1]
            assert file["activations"].dtype == np.float32


def test_sparse_files_hold_the_same_as_dense_ones(llama, saes, sentences, tmp_path):
    compute(sentences, saes, llama, tmp_path / "dense")
    compute(sentences, saes, llama, tmp_path / "sparse", storage="sparse")
    dense = actlab.load_all_sentences(tmp_path / "dense")
    sparse = actlab.load_all_sentences(tmp_path / "sparse")
    for one, other in zip(dense, sparse, strict=True):
        assert set(one) == set(other)
        for key in one:
            assert np.array_equal(one[key], other[key]), key
    settings = {"strategy": "embedding-to-feature", "target_layer": 3, "target_features": "0,7,47", "rows": "all"}
    made = [
        actlab.load_dataset(
            actlab.generate_datasets(input=tmp_path / name, output=tmp_path / f"{name}.npz", **settings)[0].path
        )
        for name in ("dense", "sparse")
    ]
    assert (made[0].X == made[1].X).all()
    assert (made[0].y == made[1].y).all()


def test_stored_hidden_states_are_encoded_again_without_a_model(llama, saes, sentences, tmp_path):
    compute(sentences, saes, llama, tmp_path / "first")
    done = actlab.compute_features(
        from_hidden=tmp_path / "first", sae=saes, output=tmp_path / "again", l0_check="off", model="no/such/model"
    )
    assert done.n_sentences == 5
    for name in (f"sentence_{k:06d}.npz" for k in range(1, 6)):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_final_only_keeps_the_final_row(llama, saes, sentences, tmp_path):
    compute(sentences, saes, llama, tmp_path / "all")
    compute(sentences, saes, llama, tmp_path / "final", final_only=True)
    for one, other in zip(
        actlab.load_all_sentences(tmp_path / "all"), actlab.load_all_sentences(tmp_path / "final"), strict=True
    ):
        assert other.facts.n_rows == 1
        np.testing.assert_allclose(one["activations"][:, -1:], other["activations"], rtol=1e-4, atol=1e-5)
        assert other["token_positions"].tolist() == one["token_positions"].tolist()[-1:]
        assert other["fragments"].tolist() == [one.text]


def test_bad_sentences_are_dropped_by_reason_and_the_status_says_so(llama, saes, tmp_path):
    rows = [*SENTENCES, ("", 1), ("no label", "much"), ("infinite", "inf"), ("word " * 300, 2)]
    path = write_csv(tmp_path / "bad.csv", rows)
    line = ("compute-features", "--input", path, "--model", llama, "--sae", saes, "--l0-check", "off")
    done = run(*line, "--output", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    listed = [json.loads(one) for one in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert {one["sentence"]: one["reason"] for one in listed} == {
        5: "no sentence",
        6: "the label is no number",
        7: "the label is no number",
        8: "longer than the limit",
    }
    assert len(list((tmp_path / "out").glob("sentence_*.npz"))) == 5
    assert run(*line, "--output", tmp_path / "out").returncode == 3
    assert run(*line, "--output", tmp_path / "no", "--on-bad", "error").returncode == 1


IN_WORDS = [(text, "high" if number >= 2 else "low") for text, number in SENTENCES]


def test_labels_in_words_drop_every_sentence_and_the_hint_says_how_to_number_them(llama, saes, tmp_path):
    path, output = write_csv(tmp_path / "words.csv", IN_WORDS), tmp_path / "out"
    line = ("compute-features", "--input", path, "--model", llama, "--sae", saes, "--l0-check", "off", "--quiet")
    for _ in range(2):
        done = run(*line, "--output", output)
        fails_in_two_lines(done, 1, "a label (the label is no number: 5)", "--labels low=0,high=3")
        assert sorted(tmp_path.iterdir()) == [path], "nothing is left behind"
    done = run(*line, "--output", output, "--labels", "low=0,high=3")
    assert (done.returncode, done.stdout) == (0, f"{output}\n"), done.stderr
    labels = [sentence.facts.label for sentence in actlab.load_all_sentences(output)]
    assert labels == [3.0 if word == "high" else 0.0 for _, word in IN_WORDS]


def test_labels_that_have_no_word_leave_the_folder_as_it_was_before_there_were_any(llama, saes, sentences, tmp_path):
    config = actlab.EncodeConfig(input=str(sentences), sae=(str(saes),), output=str(tmp_path / "out"))
    assert "labels" not in identity_of(config)
    compute(sentences, saes, llama, tmp_path / "out", limit=2)
    assert compute(sentences, saes, llama, tmp_path / "out", limit=2, labels=None).is_sealed
    with pytest.raises(actlab.ActlabError, match=r"labels is None there and 'a=1' here"):
        compute(sentences, saes, llama, tmp_path / "out", limit=2, labels="a=1")


@pytest.mark.parametrize("labels", ["low", "low=", "=1", "low=much", "low=0,low=1", "low=0,,high=3"])
def test_words_without_a_number_of_their_own_are_refused(labels, saes, llama, sentences, tmp_path):
    with pytest.raises(actlab.ActlabError, match="--labels") as caught:
        compute(sentences, saes, llama, tmp_path / "out", labels=labels)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("rows", "settings", "says", "hint"),
    [
        ([("", 0), (" ", 1)], (), "no sentence: 2", "--text-column"),
        ([(f"text {k}", f"remark {k}") for k in range(20)], (), "the label is no number: 20", "--label-column"),
        ([("text", ""), ("text", "no")], (), "the label is no number: 2", "--label-column"),
        ([("one", 0, "x"), ("two", 1, "x")], (), "not as many fields as the header: 2", "sentence, concept_strength"),
        ([("word " * 30, 0)] * 2, ("--max-length", 9), "longer than the limit: 2", "--max-length"),
    ],
)
def test_a_folder_of_which_nothing_is_left_is_not_sealed(rows, settings, says, hint, llama, saes, tmp_path):
    path, output = write_csv(tmp_path / "bad.csv", rows), tmp_path / "out"
    line = ("compute-features", "--input", path, "--model", llama, "--sae", saes, "--l0-check", "off", "--quiet")
    fails_in_two_lines(run(*line, "--output", output, *settings), 1, says, hint)
    assert not output.exists()
    write_csv(path, SENTENCES[:1])
    assert run(*line, "--output", output).returncode == 0, "what is put right is not in its own way"


def test_the_measured_l0_counts_every_row_once_also_beside_a_unit_without_sentences(llama, saes, tmp_path):
    rows = [SENTENCES[k % 5] for k in range(32)] + [("", 0)] * 64
    done = compute(write_csv(tmp_path / "s.csv", rows), saes, llama, tmp_path / "out")
    assert (done.n_sentences, done.n_dropped) == (32, 64)
    latents = [sentence["activations"] for sentence in actlab.load_all_sentences(tmp_path / "out")]
    fired = np.concatenate([(one > 0).sum(axis=2) for one in latents], axis=1)
    np.testing.assert_allclose(done.measured_l0s, fired.mean(axis=1), atol=1e-3)


def test_values_too_large_for_float16_stop_the_run_and_name_themselves(llama, sentences, tmp_path):
    weights = random_weights("jumprelu", d_in=tiny.WIDTH)
    folder = write_gemma_scope(tmp_path / "saes", 1, 10, weights | {"W_enc": weights["W_enc"] * 1e6})
    with pytest.raises(actlab.ActlabError, match=r"SAE activations go up to .* too large for float16"):
        compute(sentences, folder, llama, tmp_path / "out", dtype="float16")
    compute(sentences, write_gemma_scope(tmp_path / "good", 1, 10), llama, tmp_path / "half", dtype="float16")
    for storage in ("dense", "sparse"):
        compute(sentences, tmp_path / "good", llama, tmp_path / storage, dtype="float16", storage=storage)
    (half, *_), (sparse, *_) = (actlab.load_all_sentences(tmp_path / name) for name in ("half", "sparse"))
    assert half["activations"].dtype == half["hidden_states"].dtype == np.float16
    assert (half["activations"] == sparse["activations"]).all()


def test_split_and_compute_features_number_the_rows_of_an_odd_csv_alike(llama, saes, tmp_path):
    path = tmp_path / "odd.csv"
    lines = ["sentence,concept_strength_label", "well, 3,1", '"a, b",0', "", "   ", "one more,1", "and\tanother,0"]
    lines += [f"sentence number {k} is here,{k % 2}" for k in range(20)]
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    done = compute(path, saes, llama, tmp_path / "out")
    reasons = [json.loads(one) for one in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert {one["sentence"]: one["reason"] for one in reasons} == dict.fromkeys(
        (0, 2), "not as many fields as the header"
    )
    split = actlab.make_split(input=path, output=tmp_path / "splits.json")
    assert split.n_dropped == 2
    folder = actlab.load_all_sentences(tmp_path / "out")
    assert sorted(split.splits.side_of) == [sentence.facts.index for sentence in folder]
    split.splits.check_texts({sentence.facts.index: sentence.text for sentence in folder})
    assert done.n_sentences == 23


def test_long_sentences_are_read_a_few_at_a_time_and_give_the_same_numbers(
    llama, saes, sentences, tmp_path, monkeypatch
):
    from actlab.features.encode.states import model as states_module

    real, most = states_module.read_tokens, []
    monkeypatch.setattr(
        states_module,
        "read_tokens",
        lambda reader, spans: most.append(sum(len(s.ids) for s in spans)) or real(reader, spans),
    )
    compute(sentences, saes, llama, tmp_path / "few", batch_tokens=40)
    assert len(most) > 1
    assert max(most) <= 40
    compute(sentences, saes, llama, tmp_path / "all")
    for one, other in zip(
        actlab.load_all_sentences(tmp_path / "few"), actlab.load_all_sentences(tmp_path / "all"), strict=True
    ):
        np.testing.assert_allclose(one["hidden_states"], other["hidden_states"], rtol=1e-4, atol=1e-5)


def test_a_sentence_that_fails_is_tried_once_more_alone(llama, saes, sentences, tmp_path, monkeypatch):
    from actlab.features.encode.states import model as states_module

    real = states_module.read_tokens
    calls: list[int] = []

    def flaky(reader, spans):
        calls.append(len(spans))
        states = real(reader, spans)
        if len(calls) == 1:  # the batch fails for two sentences
            states[1] = states[1] * torch.nan
            states[2] = states[2] * torch.nan
        if len(calls) == 3:  # one of them for good
            states[0] = states[0] * torch.nan
        return states

    monkeypatch.setattr(states_module, "read_tokens", flaky)
    done = compute(sentences, saes, llama, tmp_path / "out")
    assert calls == [5, 1, 1]
    assert (done.n_sentences, done.n_dropped) == (4, 1)
    assert (tmp_path / "out" / "sentence_000002.npz").exists()
    assert json.loads((tmp_path / "out" / "dropped.jsonl").read_text()) == {
        "sentence": 2,
        "reason": "NaN or inf in its states",
    }


def test_far_from_the_declared_l0_the_run_stops_with_the_likely_causes(llama, sentences, tmp_path):
    weights = random_weights("jumprelu", d_in=tiny.WIDTH)
    folder = write_gemma_scope(tmp_path / "saes", 1, 1, weights | {"threshold": torch.zeros(48)})
    with pytest.raises(
        actlab.ActlabError, match=r"layer 1: .* features fire on a token, but the SAE declares 1"
    ) as error:
        compute(sentences, folder, llama, tmp_path / "out", l0_check="stop")
    assert all(word in error.value.hint for word in ("layer", "scale", "BOS", "architecture"))
    assert not list((tmp_path).glob("out*/sentence_*"))
    compute(sentences, folder, llama, tmp_path / "out", l0_check="warn")


@pytest.fixture(scope="module")
def mirrors(tmp_path_factory) -> Path:
    """SAEs of layers 1 and 3 that give back what they read."""
    root = tmp_path_factory.mktemp("mirrors")
    write_saelens(root / "one", "standard", 1, mirror_weights(tiny.WIDTH))
    write_saelens(root / "three", "topk", 3, mirror_weights(tiny.WIDTH), k=2 * tiny.WIDTH)
    return root


def test_the_explained_variance_is_said_and_kept_and_is_that_of_the_first_rows(llama, saes, tmp_path, caplog):
    with caplog.at_level("INFO", logger="actlab"):
        done = compute(write_csv(tmp_path / "s.csv", SENTENCES * 8), saes, llama, tmp_path / "out")
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert metadata["explained_variances"] == done.explained_variances
    rows = {key: [] for key in ("hidden_states", "activations")}
    for index in range(32):
        with np.load(tmp_path / "out" / f"sentence_{index + 1:06d}.npz") as file:
            for key in rows:
                rows[key].append(file[key])
    x, latents = (np.concatenate(rows[key], axis=1)[:, :256].astype(np.float64) for key in rows)
    assert x.shape[1] == 256
    weights = {1: random_weights("jumprelu", seed=1, d_in=tiny.WIDTH), 3: random_weights("standard", 3, tiny.WIDTH)}
    for place, layer in enumerate((1, 3)):
        w = {key: value.double().numpy() for key, value in weights[layer].items()}
        error = x[place] - (latents[place] @ w["W_dec"] + w["b_dec"])
        expected = 1 - (error**2).sum() / ((x[place] - x[place].mean(axis=0)) ** 2).sum()
        assert done.explained_variances[place] == pytest.approx(expected, rel=1e-3)
        declared = {1: ", average_l0 10", 3: ""}[layer]
        said = f"layer {layer}{declared}: explained variance {done.explained_variances[place]:.3f} on 256 rows"
        assert said in caplog.text


def test_an_sae_that_gives_its_input_back_passes(llama, mirrors, sentences, tmp_path):
    done = compute(sentences, mirrors, llama, tmp_path / "out", l0_check="stop")
    assert done.explained_variances == [1.0, 1.0]
    again = actlab.compute_features(from_hidden=tmp_path / "out", sae=mirrors, output=tmp_path / "again")
    assert again.explained_variances == [1.0, 1.0]


@pytest.mark.parametrize(("architecture", "k"), [("topk", 2 * tiny.WIDTH), ("standard", None)])
def test_an_sae_of_another_place_stops_the_run_also_where_its_l0_tells_nothing(
    architecture, k, llama, sentences, tmp_path, caplog
):
    """As a transcoder does, it writes what it has not read; TopK keeps its k anywhere, the other declares no L0."""
    weights = mirror_weights(tiny.WIDTH)
    weights["W_dec"] = weights["W_dec"].roll(1, dims=1)
    folder = write_saelens(tmp_path / "sae", architecture, 1, weights, k=k)
    with pytest.raises(actlab.ActlabError, match=r"layer 1: .* its explained variance is -") as error:
        compute(sentences, folder, llama, tmp_path / "out", l0_check="stop")
    for cause in ("layer", "output", "scale", "BOS", "transcoder"):
        assert cause in error.value.hint
    assert not (tmp_path / "out").exists()
    compute(sentences, folder, llama, tmp_path / "out", l0_check="warn")
    assert "does not give its input back" in caplog.text
    with pytest.raises(actlab.ActlabError, match="its explained variance is -"):
        actlab.compute_features(from_hidden=tmp_path / "out", sae=folder, output=tmp_path / "again")


def test_on_too_few_rows_the_explained_variance_waits_for_more(llama, mirrors, tmp_path):
    few = write_csv(tmp_path / "few.csv", SENTENCES[2:3])
    assert compute(few, mirrors, llama, tmp_path / "few", l0_check="stop").explained_variances == [None, None]
    weights = mirror_weights(tiny.WIDTH)
    weights["W_dec"] = weights["W_dec"].roll(1, dims=1)
    bad = write_saelens(tmp_path / "sae", "standard", 1, weights)
    late = write_csv(tmp_path / "late.csv", [("", 0)] * 31 + SENTENCES[2:3] + SENTENCES)
    with pytest.raises(actlab.ActlabError, match="its explained variance is -"):
        compute(late, bad, llama, tmp_path / "late", l0_check="stop")
    done = compute(late, bad, llama, tmp_path / "warned", l0_check="warn")
    assert done.explained_variances == [None], "which part did the second unit does not show"


def test_the_first_unit_alone_decides_the_kept_explained_variance(llama, tmp_path):
    rows = [(f"{text} {k}", 0) for k, (text, _) in enumerate(SENTENCES * 7)]
    saes = write_saelens(tmp_path / "sae", "topk", 1, mirror_weights(tiny.WIDTH), k=5)
    first = compute(write_csv(tmp_path / "first.csv", rows[:32]), saes, llama, tmp_path / "first").explained_variances
    both = write_csv(tmp_path / "both.csv", rows)
    for part in ("2/2", "1/2"):
        whole = compute(both, saes, llama, tmp_path / "parts", part=part)
    assert whole.explained_variances == first
    assert 0 < first[0] < 1


def test_layers_and_l0_choose_among_the_saes(llama, sentences, tmp_path):
    root = tmp_path / "saes"
    for layer, l0 in ((0, 5), (0, 9), (2, 9)):
        write_gemma_scope(root, layer, l0, random_weights("jumprelu", seed=layer + l0, d_in=tiny.WIDTH))
    compute(sentences, root, llama, tmp_path / "all")
    facts = actlab.load_all_sentences(tmp_path / "all").facts
    assert (facts.layers, facts.average_l0s) == ((0, 0, 2), (5, 9, 9))
    compute(sentences, root, llama, tmp_path / "nine", average_l0=9)
    assert actlab.load_all_sentences(tmp_path / "nine").facts.layers == (0, 2)
    compute(sentences, root, llama, tmp_path / "two", layers="2")
    assert actlab.load_all_sentences(tmp_path / "two").facts.layers == (2,)
    with pytest.raises(actlab.ActlabError, match="there is no SAE of layer 1"):
        compute(sentences, root, llama, tmp_path / "x", layers="1")
    with pytest.raises(actlab.ActlabError, match="average_l0 mismatch: layer 2"):
        compute(sentences, root, llama, tmp_path / "x", average_l0=5)


def test_an_sae_of_another_model_is_refused_before_any_work(llama, sentences, tmp_path):
    wide = write_gemma_scope(tmp_path / "wide", 1, 5, random_weights("jumprelu", d_in=99))
    with pytest.raises(actlab.ActlabError, match="reads 99 numbers a token, but the states have 32"):
        compute(sentences, wide, llama, tmp_path / "out")
    deep = write_gemma_scope(tmp_path / "deep", 9, 5, random_weights("jumprelu", d_in=tiny.WIDTH))
    with pytest.raises(actlab.ActlabError, match="layer 9, but tiny-llama has 4 layers"):
        compute(sentences, deep, llama, tmp_path / "out")


def test_a_declared_centred_stream_is_warned_of(llama, sentences, tmp_path, caplog):
    for value in (False, True):
        hook = {
            "hook_name": "blocks.2.hook_resid_pre",
            "model_from_pretrained_kwargs": {"center_writing_weights": value},
        }
        sae = write_saelens(tmp_path / str(value), "standard", 0, mirror_weights(tiny.WIDTH), metadata=hook)
        caplog.clear()
        actlab.cost(actlab.compute_features, input=sentences, sae=sae, model=llama, output=tmp_path / "out")
        assert ("states less their mean" in caplog.text) is value


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0.0, -1.0, 2.0])
def test_an_input_scale_that_is_none_or_that_no_sae_takes_is_refused(scale, llama, saes, sentences, tmp_path):
    with pytest.raises(actlab.ActlabError, match="--input-scale"):
        compute(sentences, saes, llama, tmp_path / "out", input_scale=scale)
    assert [path.name for path in tmp_path.iterdir()] == ["sentences.csv"]


def test_an_unfinished_folder_is_not_read(llama, saes, sentences, tmp_path):
    compute(sentences, saes, llama, tmp_path / "out")
    (tmp_path / "out" / "metadata.json").unlink()
    with pytest.raises(actlab.ActlabError, match="not a finished dataset"):
        actlab.load_all_sentences(tmp_path / "out")


def test_what_changes_a_features_value_is_in_the_manifest(llama, saes, sentences, tmp_path):
    compute(sentences, saes, llama, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    identity = manifest["identity"]
    assert {"model_name", "revision", "hook", "leading_special_tokens", "embedding_scale", "model_dtype"} <= set(
        identity
    )
    assert identity["leading_special_tokens"] == 1
    assert {"architecture", "input_norm", "apply_b_dec_to_input", "average_l0", "layer"} <= set(identity["saes"][0])
    roles = {entry["role"].split(" of")[0] for entry in manifest["inputs"]}
    assert roles == {"sentences", "model", "sae"}
    assert all(len(entry["sha256"]) == 64 for entry in manifest["inputs"])
    assert str(tmp_path) not in json.dumps(manifest)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Five units of sentences."""
    words = " ".join(text for text, _ in SENTENCES).split()
    rows = [(" ".join(words[(3 * k + j) % len(words)] for j in range(3 + k % 6)), k % 4) for k in range(150)]
    return write_csv(tmp_path_factory.mktemp("csv") / "many.csv", rows)


@pytest.fixture(scope="module")
def undisturbed(many, saes, llama, tmp_path_factory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    compute(many, saes, llama, output)
    return hashes(output)


def test_stopped_anywhere_and_run_again_gives_the_same_bytes(many, saes, llama, undisturbed, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    real = encode_job.encode_sentences
    for n_done in range(5):
        calls: list[int] = []

        def dies(*args, calls=calls, n_done=n_done):
            calls.append(1)
            if len(calls) > n_done:
                raise Killed
            return real(*args)

        monkeypatch.setattr(encode_job, "encode_sentences", dies)
        with pytest.raises(Killed):
            compute(many, saes, llama, tmp_path / f"out{n_done}")
        monkeypatch.setattr(encode_job, "encode_sentences", real)
        assert not (tmp_path / f"out{n_done}").exists()
        done = compute(many, saes, llama, tmp_path / f"out{n_done}")
        assert done.is_sealed
        assert hashes(tmp_path / f"out{n_done}") == undisturbed


def one_part(arguments) -> None:
    if arguments is None:
        return
    many, saes, llama, output, part = arguments
    compute(many, saes, llama, output, part=part)


def test_parts_at_once_give_the_same_bytes(many, saes, llama, undisturbed, tmp_path):
    jobs = [(many, saes, llama, tmp_path / "out", f"{k}/3") for k in (3, 1, 2)]
    with new_processes().Pool(1, torch.set_num_threads, (1,)) as pool:
        pool.apply(one_part, (None,))  # returns when that process has imported torch, so that both start together
        parts_there = pool.map_async(one_part, jobs[1:])
        one_part(jobs[0])
        parts_there.get()
    if not (tmp_path / "out").exists():
        assert run("seal", tmp_path / "out").returncode == 0
    assert hashes(tmp_path / "out") == undisturbed


def test_the_dry_run_says_what_each_storage_costs(many, saes, llama, tmp_path):
    line = ("compute-features", "--input", many, "--model", llama, "--sae", saes, "--output", tmp_path / "out")
    done = run(*line, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "5 units, 150 sentences" in done.stdout
    assert "dense" in done.stdout
    assert "sparse" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_cost_counts_every_token_and_the_bytes_of_the_storage_that_is_chosen(many, saes, llama, tmp_path):
    settings = {"input": many, "model": llama, "sae": saes, "output": tmp_path / "out"}
    costs = [actlab.cost(actlab.compute_features, **settings, storage=name)[0] for name in ("dense", "sparse")]
    tokenizer = tiny.transformers.AutoTokenizer.from_pretrained(llama)
    with many.open(encoding="utf-8") as file:
        n_rows = sum(len(tokenizer(row["sentence"])["input_ids"]) - 1 for row in csv.DictReader(file))
    for cost in costs:
        assert (cost.details["n_sentences"], cost.details["n_rows"]) == (150, n_rows)
    sizes = [cost.bytes_to_write for cost in costs]
    assert sizes == [costs[0].details["bytes_dense"], costs[0].details["bytes_sparse"]]
    compute(many, saes, llama, tmp_path / "out", storage="sparse")
    written = sum(file.stat().st_size for file in (tmp_path / "out").glob("sentence_*.npz"))
    assert 0.5 < written / sizes[1] < 1.5


def test_files_of_other_programs_are_read_and_encoded(saes, tmp_path):
    folder = write_folder(tmp_path / "in", 6, width=tiny.WIDTH, compressed=True)
    done = actlab.compute_features(from_hidden=folder, sae=saes, output=tmp_path / "out", l0_check="off")
    assert done.n_sentences == 6
    (first, *_) = actlab.load_all_sentences(tmp_path / "out")
    rows = np.load(folder / "sentence_000001.npz")["hidden_states"]
    expected = by_hand("jumprelu", random_weights("jumprelu", seed=1, d_in=tiny.WIDTH), rows[1], centered=False)
    np.testing.assert_allclose(first["activations"][0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["topk", "jumprelu"])
def test_a_trained_sae_explains_its_layer_and_its_bytes_are_the_same_again(
    architecture, llama, write_rows, tmp_path, caplog
):
    from tests.conftest import make_rows

    settings = {
        "input": write_rows(make_rows(60)),
        "model": llama,
        "architecture": architecture,
        "n_features": 96,
        "k": 6,
        "n_steps": 150,
        "batch_size": 128,
        "quiet": True,
    }
    line = (
        "train-sae",
        "--input",
        settings["input"],
        "--model",
        llama,
        "--layers",
        "1,2",
        "--output",
        tmp_path / "whole",
    )
    if architecture == "topk":
        assert "2 layers, 1000 steps each" in run(*line, "--dry-run").stdout
    whole = actlab.train_sae(layers="1,2", output=tmp_path / "whole", **settings)
    metadata = json.loads((whole.path / "metadata.json").read_text())
    for layer in ("1", "2"):
        last = metadata["results"][layer]
        assert last["explained_variance"] > 0.5
        assert last["l0"] <= 6 + 1e-6
        assert metadata["curves"][layer][0][2] < last["explained_variance"]
    for part in ("2/2", "1/2"):
        actlab.train_sae(layers="1,2", output=tmp_path / "parts", part=part, **settings)
    assert hashes(tmp_path / "parts") == hashes(whole.path)
    assert {sae.layer: sae.architecture for sae in find_saes([str(whole.path)])} == dict.fromkeys((1, 2), architecture)
    assert (tmp_path / "whole.tensorboard" / "layer_01").is_dir()
    sentences = write_csv(tmp_path / "s.csv", SENTENCES)
    with caplog.at_level("INFO", logger="actlab"):
        done = compute(sentences, whole.path, llama, tmp_path / "features", l0_check="stop")
    assert all(1 < l0 < 18 for l0 in done.measured_l0s)
    assert all(explained > 0.3 for explained in done.explained_variances)
    for layer in ("1", "2"):
        assert f" rows, and {metadata['results'][layer]['explained_variance']:.3f} in training" in caplog.text
    shutil.rmtree(tmp_path / "features")


def test_a_training_that_becomes_nan_is_refused_and_leaves_no_sae(llama, write_rows, tmp_path, monkeypatch):
    texts = write_rows([{"text": "the fish sleeps"}] * 4)
    shape = ("--model", llama, "--layers", "1", "--n-features", 16, "--k", 2, "--n-steps", 2)
    command = ("train-sae", "--input", texts, "--output", tmp_path / "saes", *shape)
    done = run(*command, "--batch-size", 1)  # one token has no variance, of which a share could be explained
    fails_in_two_lines(done, 1, "the states of layer 1 are all the same but for rounding", "--batch-size")
    assert not (tmp_path / "saes").exists()

    def last_step_overflows(sae, batches, *, on_step, **_):
        list(batches)
        on_step(1, Step(0.5, 2.0, 0.5, 0.0))
        with torch.no_grad():
            sae.W_enc[0, 0] = torch.inf

    monkeypatch.setattr(sae_training, "train", last_step_overflows)
    done = run(*command, "--batch-size", 4)
    fails_in_two_lines(done, 1, "layer 1 left the range of floating-point numbers")
    assert not (tmp_path / "saes").exists()


def test_states_that_differ_by_rounding_only_train_no_sae(llama, write_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(sae_training, "train", lambda *_, **__: pytest.fail("trained"))
    shape = (
        "--model",
        llama,
        "--layers",
        "0,1",
        "--n-features",
        16,
        "--k",
        2,
        "--n-steps",
        2,
        "--output",
        tmp_path / "o",
    )
    done = run("train-sae", "--input", write_rows([{"text": "a"}] * 30), *shape)
    fails_in_two_lines(done, 1, "the states of layer 0 are all the same but for rounding", "--batch-size")
    noise_td = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    for size, is_refused in ((1e-7, True), (1e-6, True), (1e-3, False)):
        with pytest.raises(DataError) if is_refused else contextlib.nullcontext():
            sae_training._refuse_equal_states(100 + 100 * size * noise_td, 0)


def test_a_trained_saes_config_is_of_saelens_6_and_one_from_before_is_read_alike(llama, write_rows, tmp_path):
    """SAELens 6 takes a config whose metadata name no sae_lens_version from 6 on for an older one, and keeps of it only
    names that stand at its top (`handle_config_defaulting` of sae_lens/loading/pretrained_sae_loaders.py).
    """
    from tests.conftest import make_rows

    settings = {"input": write_rows(make_rows(20)), "model": llama, "layers": "2", "n_steps": 1, "n_features": 48}
    done = actlab.train_sae(output=tmp_path / "saes", k=4, batch_size=32, max_length=40, tensorboard=False, **settings)
    folder = done.path / "layer_02"
    config = json.loads((folder / "cfg.json").read_text())
    metadata = config["metadata"]
    assert int(metadata["sae_lens_version"].split(".")[0]) >= 6
    assert metadata["sae_lens_training_version"] is None, "SAELens did not train it"
    told = ("tiny-llama", "blocks.2.hook_resid_post", 4, True, 40)
    assert tuple(metadata[key] for key in TOLD) == told
    assert json.loads((done.path / "manifest.json").read_text())["identity"]["sae_lens_version"]
    (new,) = find_saes([str(folder)])
    config["metadata"] = {key: metadata[key] for key in ("model_name", "hook_name", "average_l0", "trained_by")}
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "cfg.json").write_text(json.dumps(config))
    (old,) = find_saes([str(tmp_path / "old")])
    assert old.as_identity() == new.as_identity()


TOLD = ("model_name", "hook_name", "average_l0", "prepend_bos", "context_size")


@pytest.mark.slow
def test_killed_at_random_moments_and_run_again_gives_the_same_bytes(many, saes, llama, undisturbed, tmp_path):
    import random
    import subprocess

    from tests.command_line import actlab_command

    draw = random.Random(0)
    line = ("compute-features", "--input", many, "--model", llama, "--sae", saes, "--l0-check", "off", "--quiet")
    for number in range(12):
        output = tmp_path / f"out{number}"
        for _ in range(3):
            process = subprocess.Popen(actlab_command(*line, "--output", output), stderr=subprocess.PIPE)
            try:
                process.wait(draw.uniform(2.0, 6.0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        done = run(*line, "--output", output)
        assert done.returncode == 0, done.stderr
        assert hashes(output) == undisturbed
