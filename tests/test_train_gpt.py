"""Training a GPT: resumed exactly, saved as others read it."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from actlab.backends import gpt_trainer
from actlab.backends.gpt_trainer import SHAPES, Schedule, Shape, Vocabulary, count_parameters, new_gpt, new_optimizer
from actlab.ground.errors import ActlabError, ConfigError, StorageError
from actlab.text.tokenize.run import tokenize_text
from actlab.text.train_gpt import run as running
from actlab.text.train_gpt.checkpoints import Checkpoints
from actlab.text.train_gpt.run import plan_gpt_training, train_gpt

SETTINGS = {"steps": 12, "context": 16, "batch_size": 4, "eval_every": 5, "checkpoint_every": 3, "tensorboard": False}
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
    assert done._replace(path=whole.path) == whole
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
    from actlab.activations.run import extract_activations

    rows = write_rows([{"prompt": "the cook", "EM": "boils rice", "Neutral": "stirs it"}] * 3)
    (dump,) = extract_activations(model=str(whole.path), dataset=rows, output=tmp_path / "out")
    assert json.loads((dump.path / "EM" / "metadata.json").read_text())["hidden_dim"] == 16


def test_training_learns_and_a_finished_model_is_left_as_it_is(tokens, whole, tmp_path, monkeypatch):
    made = json.loads((whole.path / "metadata.json").read_text())
    assert [row[0] for row in made["curve"]] == [5, 10, 12]
    settings = SETTINGS | {"steps": 60, "eval_every": 60, "learning_rate": 0.02}
    better = train_gpt(input=tokens, output=tmp_path / "model", **settings)
    assert better.val_loss < whole.val_loss - 0.5 < math.log(300) - 0.5
    monkeypatch.setattr(running, "_train", lambda *_: pytest.fail("trained again"))
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
    plan = plan_gpt_training(input=tokens, output=tmp_path / "x", **SETTINGS)
    assert plan.parameters.total == whole.n_parameters
    assert plan.n_steps == 12
    epochs = plan_gpt_training(input=tokens, output=tmp_path / "x", context=16, batch_size=4, epochs=2)
    assert epochs.n_epochs == pytest.approx(2)
    assert plan_gpt_training(input=tokens, output=tmp_path / "x").n_steps == 400
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
        ({"eval_tokens": 3}, "--eval-tokens"),
        ({"batch_size": 0}, "--batch-size"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(tokens, tmp_path, settings, said):
    with pytest.raises(ConfigError, match=said):
        train_gpt(input=tokens, output=tmp_path / "m", **settings)


def test_a_folder_without_tokens_and_a_damaged_checkpoint_are_said_with_a_hint(tokens, tmp_path, monkeypatch):
    with pytest.raises(ActlabError, match="no token dataset") as caught:
        train_gpt(input=tmp_path, output=tmp_path / "m")
    assert "tokenize-text" in caught.value.hint
    checkpoints = Checkpoints(tmp_path / "m", "f" * 64)
    checkpoints.save({"step": 3, "losses": []})
    (path,) = checkpoints.folder.iterdir()
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StorageError, match="cannot read") as caught:
        checkpoints.load(overwrite=False)
    assert str(path) in caught.value.hint
