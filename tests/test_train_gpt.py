"""Training a GPT: resumed exactly, saved as others read it."""

import hashlib
import itertools
import json
import math
import os
import re
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from actlab.backends import gpt_trainer
from actlab.backends.gpt_trainer import SHAPES, Schedule, Shape, Vocabulary, count_parameters, new_gpt, new_optimizer
from actlab.ground.errors import ConfigError, DataError, ModelError, StorageError
from actlab.ground.job import cost
from actlab.ground.seeds import derive_seed
from actlab.text.dataset import EpochSampler, TextDataset
from actlab.text.tokenize.job import tokenize_text
from actlab.text.train_gpt import job as running
from actlab.text.train_gpt.checkpoints import Checkpoints
from actlab.text.train_gpt.compute import sample
from actlab.text.train_gpt.job import train_gpt

SETTINGS = {"steps": 12, "context": 16, "batch_size": 4, "eval_every": 5, "checkpoint_every": 3, "tensorboard": False}
SETTINGS |= {"sample_tokens": 20}  # more than the context holds
VOCABULARY = Vocabulary(50_000, None, 0)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("gpt")
    rng = np.random.default_rng(0)
    words = re.findall(r"\w+", "the a cook boils rice slowly and then stirs it with salt in water by night")
    texts = [" ".join(rng.choice(words, 12)) + f" {number}." for number in range(60)]
    (root / "documents.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tokenize_text(
        input=root / "documents.jsonl", output=root / "tokens", vocab_size=300, validation=0.2, near_duplicates=0
    ).path


@pytest.fixture(autouse=True)
def truly_tiny(monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", Shape(16, 2, 2, intermediate=32))


@pytest.fixture(scope="module")
def whole(tokens, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SHAPES, "tiny", Shape(16, 2, 2, intermediate=32))
        return train_gpt(input=tokens, output=tmp_path_factory.mktemp("whole") / "model", **SETTINGS)


class Stopped(Exception):
    pass


def planned(**settings) -> dict:
    (one,) = cost(train_gpt, **settings)
    return one.as_json()


def stop_after(monkeypatch, n_steps: int) -> None:
    """Break off a run in its n-th step from now, as a kill would."""
    real, taken = gpt_trainer.train_step, iter(range(1_000_000))

    def step(*args, **kwargs):
        if next(taken) == n_steps:
            raise Stopped
        return real(*args, **kwargs)

    monkeypatch.setattr("actlab.text.train_gpt.compute.train_step", step)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("stops", [[1], [3, 4, 3], [7, 5], [11]])
def test_a_run_that_was_stopped_comes_to_the_same_losses_and_bytes(tokens, whole, tmp_path, monkeypatch, stops):
    output = tmp_path / "model"
    for n in stops:
        with monkeypatch.context() as patch:
            stop_after(patch, n)
            with pytest.raises(Stopped):
                train_gpt(input=tokens, output=output, **SETTINGS)
        assert not output.exists()
        assert len(list(tmp_path.glob("model.checkpoints/*"))) <= 2
    done = train_gpt(input=tokens, output=output, **SETTINGS)
    assert replace(done, path=whole.path) == whole
    assert files_of(output) == files_of(whole.path)
    assert not (tmp_path / "model.checkpoints").exists()


def test_a_run_goes_on_from_its_newest_checkpoint_and_not_from_the_start(tokens, tmp_path, monkeypatch):
    output = tmp_path / "model"
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        with pytest.raises(Stopped):
            train_gpt(input=tokens, output=output, **SETTINGS)
    steps = []
    real = gpt_trainer.train_step
    monkeypatch.setattr(
        "actlab.text.train_gpt.compute.train_step", lambda *a, **k: steps.append(k["rate"]) or real(*a, **k)
    )
    train_gpt(input=tokens, output=output, **SETTINGS)
    assert len(steps) == 12 - 6


def test_checkpoints_load_without_pickles_and_those_of_other_settings_are_refused(tokens, tmp_path, monkeypatch):
    output = tmp_path / "model"
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        with pytest.raises(Stopped):
            train_gpt(input=tokens, output=output, **SETTINGS)
    checkpoints = sorted(tmp_path.glob("model.checkpoints/*.pt"))
    assert len(checkpoints) == 2
    state = torch.load(checkpoints[-1], weights_only=True)
    assert (state["step"], len(state["losses"])) == (6, 6)
    with pytest.raises(StorageError, match="other settings") as caught:
        train_gpt(input=tokens, output=output, **(SETTINGS | {"seed": 1}))
    assert "--overwrite" in caught.value.hint
    assert sorted(tmp_path.glob("model.checkpoints/*.pt")) == checkpoints
    train_gpt(input=tokens, output=output, overwrite=True, **(SETTINGS | {"seed": 1}))
    assert not (tmp_path / "model.checkpoints").exists()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_folder_is_a_model_that_transformers_loads_and_its_loss_is_the_one_that_was_told(
    tokens, tmp_path, architecture
):
    done = train_gpt(input=tokens, output=tmp_path / "model", architecture=architecture, **SETTINGS)
    model = AutoModelForCausalLM.from_pretrained(done.path)
    tokenizer = AutoTokenizer.from_pretrained(done.path)
    assert type(model).__name__ == {"llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel"}[architecture]
    assert model.num_parameters() == done.n_parameters < 30_000
    ids = torch.from_numpy(np.fromfile(tokens / "val.bin", "<u2").astype(np.int64))
    total = 0.0
    with torch.no_grad():
        for target in range(1, len(ids)):  # windows of 16 targets from the first on; the last one ends with the stream
            last = min(-(-target // 16) * 16, len(ids) - 1)
            window = ids[max(0, last - 16) : target]
            logits = model(window[None]).logits[0, -1]
            total -= float(logits.log_softmax(-1)[ids[target]])
    assert done.val_loss == pytest.approx(total / (len(ids) - 1), rel=1e-5)
    assert done.val_perplexity == pytest.approx(math.exp(done.val_loss))
    assert tokenizer("the rice")["input_ids"][0] == ids[0] == tokenizer.bos_token_id


def test_a_trained_model_can_be_read_by_extract_activations(whole, write_rows, tmp_path):
    from actlab.activations.job import extract_activations

    rows = write_rows([{"prompt": "the cook", "EM": "boils rice", "Neutral": "stirs it"}] * 3)
    (dump,) = extract_activations(model=str(whole.path), dataset=rows, output=tmp_path / "out")
    assert json.loads((dump.path / "EM" / "metadata.json").read_text())["hidden_dim"] == 16


def test_training_learns_and_a_finished_model_is_left_as_it_is(tokens, whole, tmp_path, monkeypatch):
    made = json.loads((whole.path / "metadata.json").read_text())
    assert [row[0] for row in made["curve"]] == [5, 10, 12]
    settings = SETTINGS | {"steps": 60, "eval_every": 60, "learning_rate": 0.02}
    better = train_gpt(input=tokens, output=tmp_path / "model", **settings)
    assert better.val_loss < whole.val_loss - 0.5 < math.log(300) - 0.5
    monkeypatch.setattr(running.TrainGptJob, "_train", lambda *_: pytest.fail("trained again"))
    assert train_gpt(input=tokens, output=tmp_path / "model", **settings) == better
    with pytest.raises(StorageError, match="other settings"):
        train_gpt(input=tokens, output=tmp_path / "model", **SETTINGS)


def test_the_folder_holds_no_times_and_curves_lie_beside_it(tokens, whole, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = train_gpt(input=tokens, output=tmp_path / "model", **(SETTINGS | {"tensorboard": True}))
    assert files_of(done.path) == files_of(whole.path)
    drawn = EventAccumulator(str(tmp_path / "model.tensorboard"))
    drawn.Reload()
    assert [event.step for event in drawn.Scalars("loss/train")] == list(range(1, 13))
    assert [event.step for event in drawn.Scalars("loss/validation")] == [5, 10, 12]
    assert drawn.Scalars("loss/validation")[-1].value == pytest.approx(done.val_loss, rel=1e-6)


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_presets_have_the_parameters_that_a_count_by_hand_gives(size):
    hidden, n_layers, n_heads, _ = SHAPES[size]
    with torch.device("meta"):
        model = new_gpt("gpt2", SHAPES[size], VOCABULARY, max_positions=1024, seed=0)
    blocks = n_layers * (12 * hidden**2 + 13 * hidden) + 2 * hidden
    counts = count_parameters(model)
    assert counts == (50_000 * hidden + 1024 * hidden + blocks, 50_000 * hidden + 1024 * hidden, blocks)
    assert model.config.n_head == n_heads
    millions = {"small": 30.1, "medium": 51.2, "large": 124.0}[size]
    assert counts.total / 1e6 == pytest.approx(millions, rel=0.01)


def test_the_tiny_preset_has_the_parameters_that_a_count_by_hand_gives(monkeypatch):
    monkeypatch.undo()
    with torch.device("meta"):
        model = new_gpt("llama", SHAPES["tiny"], Vocabulary(2048, 0, 1), max_positions=512, seed=0)
    block = 4 * 128**2 + 3 * 128 * 256 + 2 * 128
    assert count_parameters(model) == (2048 * 128 + 6 * block + 128, 2048 * 128, 6 * block + 128)


def test_the_rate_rises_falls_as_a_cosine_and_only_matrices_decay():
    schedule = Schedule(0.01, n_steps=100, n_warm_up=10)
    rates = [schedule.rate(step) for step in range(100)]
    model = nn.Linear(1, 1)
    peak = torch.optim.SGD(model.parameters(), lr=0.01)
    peak.step()
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(peak, 89, eta_min=0.001)
    for step in range(10, 100):
        assert rates[step] == pytest.approx(cosine.get_last_lr()[0])
        peak.step()
        cosine.step()
    assert rates[:10] == pytest.approx([0.001 * (step + 1) for step in range(10)])
    block = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Embedding(4, 3))
    decays, stays = new_optimizer(block, weight_decay=0.3).param_groups
    assert (decays["weight_decay"], stays["weight_decay"]) == (0.3, 0.0)
    assert {id(one) for one in decays["params"]} == {id(block[0].weight), id(block[2].weight)}


def test_a_plan_tells_honest_sizes_and_writes_nothing(tokens, whole, tmp_path):
    plan = planned(input=tokens, output=tmp_path / "x", **SETTINGS)
    assert plan["parameters"].total == whole.n_parameters
    assert plan["n_steps"] == 12
    epochs = planned(input=tokens, output=tmp_path / "x", context=16, batch_size=4, epochs=2)
    assert epochs["n_epochs"] == pytest.approx(2)
    assert planned(input=tokens, output=tmp_path / "x")["n_steps"] == 400
    assert list(tmp_path.iterdir()) == []


def test_tokens_without_validation_train_without_a_validation_loss(tokens, tmp_path):
    (tmp_path / "d.jsonl").write_text('{"text": "the cook boils rice and then stirs it with salt"}\n' * 3)
    made = tokenize_text(input=tmp_path / "d.jsonl", output=tmp_path / "t", vocab_size=300, validation=0)
    done = train_gpt(input=made.path, output=tmp_path / "m", **(SETTINGS | {"boundaries": "doc"}))
    assert done.val_loss is None
    assert json.loads((done.path / "metadata.json").read_text())["val_perplexity"] is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 3, "epochs": 1.0}, "both given"),
        ({"learning_rate": 2.0}, "--learning-rate"),
        ({"eval_tokens": 0}, "--eval-tokens"),
        ({"batch_size": 0}, "--batch-size"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(tokens, tmp_path, settings, said):
    with pytest.raises(ConfigError, match=said):
        train_gpt(input=tokens, output=tmp_path / "m", **settings)


class Killed(BaseException):
    """Nothing in the code may catch it."""


def stop_training(monkeypatch, tokens: Path, output: Path, n_steps: int = 8) -> list[Path]:
    """Stop a run as a kill would, and return its checkpoints, the newest last."""
    with monkeypatch.context() as patch:
        stop_after(patch, n_steps)
        with pytest.raises(Stopped):
            train_gpt(input=tokens, output=output, **SETTINGS)
    return sorted(output.with_name(output.name + ".checkpoints").glob("*.pt"))


def test_a_kill_while_a_checkpoint_is_written_leaves_a_training_that_goes_on(tokens, whole, tmp_path, monkeypatch):
    names = iter(range(100))

    def killed_at_the_second(source, target):
        if str(target).endswith(".pt") and next(names) == 1:
            raise Killed
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("actlab.ground.storage.files.os.replace", killed_at_the_second)
        with pytest.raises(Killed):
            train_gpt(input=tokens, output=tmp_path / "model", **SETTINGS)
    assert len([path for path in tmp_path.glob("model.checkpoints/*") if path.name.startswith(".tmp-")]) == 1
    train_gpt(input=tokens, output=tmp_path / "model", **SETTINGS)
    assert files_of(tmp_path / "model") == files_of(whole.path)
    assert not (tmp_path / "model.checkpoints").exists()


def test_a_disk_that_takes_no_more_is_said_with_a_hint_and_leaves_nothing_half_written(tmp_path):
    checkpoints = Checkpoints(tmp_path / "m", "f" * 64)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot write") as caught:
            checkpoints.save({"step": 3, "weights": torch.zeros(1 << 19)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "file-size limit" in caught.value.hint
    assert list(checkpoints.folder.iterdir()) == []


def test_a_training_that_another_run_has_finished_meanwhile_makes_no_checkpoints_anew(tmp_path, caplog):
    late = Checkpoints(tmp_path / "m", "f" * 64)
    assert late.load(overwrite=False) is None
    Checkpoints(tmp_path / "m", "f" * 64).remove()  # as after publication
    late.save({"step": 3})
    assert not late.folder.exists()
    assert "no checkpoint is kept of step 3" in caplog.text


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_others_keep_in_the_folder_of_checkpoints_stays(tokens, tmp_path, overwrite):
    kept = tmp_path / "model.checkpoints" / "sub" / "notes.txt"
    kept.parent.mkdir(parents=True)
    others = [kept, *(kept.parents[1] / name for name in ("best.pt", "best.ckpt", ".tmp-mine-step_3.pt"))]
    for path in others:
        path.write_text("precious")
    train_gpt(input=tokens, output=tmp_path / "model", overwrite=overwrite, **SETTINGS)
    assert sorted(path for path in kept.parents[1].rglob("*") if path.is_file()) == sorted(others)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "one bit": flip_a_bit,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "another dictionary": lambda path: torch.save({"a": 1}, path),
    "a list": lambda path: torch.save([1], path),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("n_damaged", "steps_left"), [(1, 12 - 3), (2, 12)])
def test_a_damaged_checkpoint_is_told_and_the_run_goes_on_from_the_one_before_it(
    tokens, whole, tmp_path, monkeypatch, caplog, damage, n_damaged, steps_left
):
    for path in stop_training(monkeypatch, tokens, tmp_path / "model")[-n_damaged:]:
        DAMAGES[damage](path)
    steps = []
    real = gpt_trainer.train_step
    monkeypatch.setattr("actlab.text.train_gpt.compute.train_step", lambda *a, **k: steps.append(1) or real(*a, **k))
    train_gpt(input=tokens, output=tmp_path / "model", **SETTINGS)
    assert len(steps) == steps_left
    assert len([one for one in caplog.records if "is damaged" in one.message]) == n_damaged
    assert files_of(tmp_path / "model") == files_of(whole.path)


@pytest.fixture
def copied(tokens, tmp_path) -> Path:
    return shutil.copytree(tokens, tmp_path / "tokens")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("dtype", value) for value in (">u2", "S2")],
        *[("eos_id", value) for value in (299, "x")],
        *[("prefix_ids", value) for value in ([200, 201], 5)],
        *[("vocab_size", value) for value in (300.0, 10**12)],
        ("tokenizer_sha256", 5),
    ],
)
def test_metadata_that_was_changed_is_refused_before_any_training(copied, tmp_path, key, value):
    content = json.loads((copied / "metadata.json").read_text())
    assert repr(content[key]) != repr(value)
    (copied / "metadata.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(StorageError, match=r"is damaged: metadata\.json") as caught:
        train_gpt(input=copied, output=tmp_path / "m", **SETTINGS)
    assert "actlab verify" in caught.value.hint


@pytest.mark.parametrize("name", ["train.bin", "train.idx", "val.bin", "val.idx", "tokenizer/tokenizer.json"])
def test_tokens_that_were_changed_or_lost_are_refused_before_any_training(copied, tmp_path, name):
    flip_a_bit(copied / name)
    with pytest.raises(StorageError, match=f"is damaged: {name}: its bytes are not the ones"):
        train_gpt(input=copied, output=tmp_path / "m", **SETTINGS)
    (copied / name).unlink()
    with pytest.raises(DataError, match=f"is damaged: {name}: missing"):
        train_gpt(input=copied, output=tmp_path / "m", **SETTINGS)


def test_tokens_without_their_tokenizer_have_to_be_made_again_and_other_files_beside_them_may_lie(copied, tmp_path):
    (copied / "notes.txt").write_text("mine")
    assert planned(input=copied, output=tmp_path / "m", **SETTINGS)["n_steps"] == 12
    shutil.rmtree(copied / "tokenizer")
    with pytest.raises(DataError, match="tokenizer") as caught:
        train_gpt(input=copied, output=tmp_path / "m", **SETTINGS)
    assert "tokenize-text" in caught.value.hint
    assert "--tokenizer" not in caught.value.hint


def test_a_folder_without_tokens_or_without_a_manifest_is_said_with_a_hint(copied, tmp_path):
    (copied / "manifest.json").unlink()
    for folder in (tmp_path / "nothing", tmp_path, copied):
        with pytest.raises(DataError, match="no token dataset") as caught:
            train_gpt(input=folder, output=tmp_path / "m")
        assert "tokenize-text" in caught.value.hint


def test_the_manifest_names_every_kind_of_machine_that_trained_the_model(tokens, whole, tmp_path, monkeypatch):
    (here,) = json.loads((whole.path / "manifest.json").read_text())["made_on"]
    assert (here["torch"], here["device"]) == (torch.__version__.split("+")[0], "cpu")
    stop_training(monkeypatch, tokens, tmp_path / "model")
    elsewhere = here | {"machine": "another"}
    monkeypatch.setattr(running, "environment", lambda _: elsewhere)
    done = train_gpt(input=tokens, output=tmp_path / "model", **SETTINGS)
    assert json.loads((done.path / "manifest.json").read_text())["made_on"] == [here, elsewhere]


def test_a_plan_counts_the_checkpoints_that_lie_there_at_a_time(tokens, tmp_path, monkeypatch):
    def checkpoint_bytes(checkpoint_every: int) -> int:
        settings = SETTINGS | {"checkpoint_every": checkpoint_every}
        return planned(input=tokens, output=tmp_path / "x", **settings)["checkpoint_bytes"]

    state = torch.load(stop_training(monkeypatch, tokens, tmp_path / "model")[-1], weights_only=True)
    moments = [one[name] for one in state["optimizer"]["state"].values() for name in ("exp_avg", "exp_avg_sq")]
    tensors = {one.data_ptr(): one.nbytes for one in [*state["model"].values(), *moments]}
    assert checkpoint_bytes(12) == 0
    assert checkpoint_bytes(6) == sum(tensors.values())
    assert checkpoint_bytes(3) == checkpoint_bytes(1) == 3 * checkpoint_bytes(6)


def hold_empty_documents(folder: Path, split: str, n: int) -> None:
    """Make a split hold documents that are an EOS alone, in an undamaged folder."""
    metadata = json.loads((folder / "metadata.json").read_text())
    np.full(n, metadata["eos_id"], "<u2").tofile(folder / f"{split}.bin")
    np.arange(1, n + 1).astype("<u8").tofile(folder / f"{split}.idx")
    metadata["n_tokens"][split] = metadata["n_docs"][split] = n
    (folder / "metadata.json").write_text(json.dumps(metadata))
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        data = (folder / entry["path"]).read_bytes()
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_training_split_with_nothing_to_predict_is_refused_and_such_a_validation_split_is_none(copied, tmp_path):
    settings = SETTINGS | {"boundaries": "doc"}
    hold_empty_documents(copied, "val", 5)
    done = train_gpt(input=copied, output=tmp_path / "m", **settings)
    assert done.val_loss is None
    hold_empty_documents(copied, "train", 5)
    with pytest.raises(DataError, match="a token to predict") as caught:
        train_gpt(input=copied, output=tmp_path / "n", **settings)
    assert "tokenise" in caught.value.hint


def poison(monkeypatch, after: int, value: float) -> None:
    """Let a step leave weights as a rate that is far too high would."""
    real, taken = gpt_trainer.train_step, itertools.count(1)

    def step(model, *args, **kwargs):
        loss = real(model, *args, **kwargs)
        if next(taken) == after:
            with torch.no_grad():
                model.get_input_embeddings().weight.mul_(value)
        return loss

    monkeypatch.setattr("actlab.text.train_gpt.compute.train_step", step)


@pytest.mark.parametrize(
    ("after", "value", "said"),
    [(3, math.nan, "the loss is nan"), (12, math.nan, "the loss is nan"), (12, 1e4, r"the loss is [\d.e+]+$")],
    ids=["on the way", "in the last step", "to a perplexity that is no number"],
)
def test_a_training_that_diverges_is_said_with_a_hint(tokens, tmp_path, monkeypatch, after, value, said):
    poison(monkeypatch, after, value)
    with pytest.raises(ModelError, match=said) as caught:
        train_gpt(input=tokens, output=tmp_path / "m", **SETTINGS)
    assert "--learning-rate" in caught.value.hint
    assert not (tmp_path / "m").exists()


def test_a_training_that_diverges_in_its_last_step_is_said_without_validation_too(copied, tmp_path, monkeypatch):
    hold_empty_documents(copied, "val", 0)
    poison(monkeypatch, 12, math.nan)
    with pytest.raises(ModelError, match="no numbers"):
        train_gpt(input=copied, output=tmp_path / "m", **SETTINGS)


def plain_loss(model, ids, first: int, last: int, low: int) -> torch.Tensor:
    """Return the losses of the targets first to last of a stream, which see 16 tokens at most, from low on."""
    start = max(low, last - 16)
    predicted = model(ids[None, start:last]).logits[0].log_softmax(-1)
    places = torch.arange(first, last + 1)
    return -predicted[places - 1 - start, ids[places]]


def plain_look(model, folder: Path, boundaries: str) -> float:
    """Return the mean loss of the first and the last window of the held-out tokens, 16 targets at most in each."""
    ids = torch.from_numpy(np.fromfile(folder / "val.bin", "<u2").astype(np.int64))
    ends = np.fromfile(folder / "val.idx", "<u8").astype(int)
    end, low = (int(ends[0]), int(ends[-2])) if boundaries == "doc" else (len(ids), 0)
    n_last = (len(ids) - low - 2) % 16 + 1
    with torch.no_grad():
        first = plain_loss(model, ids, 1, min(16, end - 1), 0)
        last = plain_loss(model, ids, len(ids) - n_last, len(ids) - 1, low)
    return float(torch.cat([first, last]).mean())


@pytest.mark.parametrize("boundaries", ["pack", "doc"])
def test_a_plain_loop_comes_to_the_same_losses(tokens, tmp_path, boundaries):
    rate, decay, n_steps, n_warm_up = 0.05, 0.5, 20, 5
    told = SETTINGS | {"steps": n_steps, "eval_every": 2, "eval_tokens": 32, "boundaries": boundaries}
    done = train_gpt(
        input=tokens, output=tmp_path / "m", learning_rate=rate, weight_decay=decay, warm_up=n_warm_up / n_steps, **told
    )
    metadata = json.loads((tokens / "metadata.json").read_text())
    bos_id = AutoTokenizer.from_pretrained(tokens / "tokenizer").bos_token_id
    vocabulary = Vocabulary(metadata["vocab_size"], bos_id, metadata["eos_id"])
    model = new_gpt("llama", SHAPES["tiny"], vocabulary, max_positions=64, seed=0)
    matrices = [one for one in model.parameters() if one.ndim > 1]
    gains = [one for one in model.parameters() if one.ndim == 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    dataset = TextDataset(tokens, "train", 16, boundaries=boundaries, seed=derive_seed(0, "windows"))
    batches = (indices for epoch in range(9) for indices in EpochSampler(dataset, 4, dataset.seed, epoch))
    losses, norms, looks = [], [], []
    for step, indices in zip(range(n_steps), batches, strict=False):
        input_bt, target_bt = (torch.stack(part) for part in zip(*(dataset[index] for index in indices), strict=True))
        predicted = model(input_bt).logits.log_softmax(-1)
        loss = -predicted[target_bt >= 0].gather(1, target_bt[target_bt >= 0][:, None]).mean()
        model.zero_grad()
        loss.backward()
        norms.append(math.sqrt(sum(float((one.grad**2).sum()) for one in model.parameters())))
        for one in model.parameters():
            one.grad *= min(1.0, 1.0 / norms[-1])
        falls = (1 + math.cos(math.pi * (step - n_warm_up) / (n_steps - 1 - n_warm_up))) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate * (step + 1) / n_warm_up if step < n_warm_up else rate * (0.1 + 0.9 * falls)
        optimizer.step()
        losses.append(float(loss.detach()))
        if step % 2 == 1:
            looks.append(plain_look(model, tokens, boundaries))
    assert min(norms) < 1 < max(norms), "clipping has to matter"
    curve = json.loads((done.path / "metadata.json").read_text())["curve"]
    assert [row[0] for row in curve] == list(range(2, n_steps + 1, 2))
    assert [row[1] for row in curve] == pytest.approx(np.reshape(losses, (-1, 2)).mean(1).tolist(), rel=1e-4)
    assert [row[2] for row in curve[:-1]] == pytest.approx(looks[:-1], rel=1e-4)
    assert abs(done.val_loss - looks[-1]) > 1e-3, "the last look reads all"


class Told(nn.Module):
    """Predicts what a table says of the last token alone, and remembers what it was shown."""

    def __init__(self, logits) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(logits))
        self.seen: list[list[int]] = []

    def forward(self, input_ids, use_cache):
        self.seen.append(input_ids[0].tolist())
        return SimpleNamespace(logits=self.table[input_ids])


def test_a_sample_goes_where_the_predictions_say_up_to_eos_and_shows_the_model_no_more_than_it_takes():
    after = {1: 4, 4: 2, 2: 5, 5: 0, 0: 3, 3: 3}
    model = Told([[50.0 * (after[token] == other) for other in range(6)] for token in range(6)])
    ids = sample(model, [1], 0, n_tokens=40, most_positions=3, seed=0)
    assert ids == [4, 2, 5]
    assert model.seen == [[1], [1, 4], [1, 4, 2], [4, 2, 5]]
    assert sample(model, [1], 0, n_tokens=2, most_positions=3, seed=0) == [4, 2]


def test_samples_are_drawn_at_a_temperature_of_four_fifths():
    model = Told([[0.0, math.log(9) * 0.8, -100.0]] * 3)  # 1 to 9 at this temperature
    ids = sample(model, [0], 2, n_tokens=4000, most_positions=1, seed=0)
    assert np.bincount(ids, minlength=2) / 4000 == pytest.approx([0.1, 0.9], abs=0.015)  # 3 standard deviations
    again = [sample(model, [0], 2, n_tokens=50, most_positions=1, seed=seed) for seed in (0, 0, 1)]
    assert again[0] == again[1] == ids[:50] != again[2]
