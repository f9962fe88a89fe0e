"""Before a run: what the self-test finds out, on which texts, and at what cost."""

import dataclasses
import json
import logging
import random

import pytest
import torch
import transformers

import actlab
from actlab.activations.verify.recompute import _by_length
from actlab.backends import capture
from actlab.backends.hub import find_model
from actlab.backends.models import Loading, load_backbone, read_facts
from actlab.backends.proof import prove_padding
from actlab.backends.reader import TokenSpan, read_states
from actlab.backends.selftest import load_reader
from actlab.backends.state import LoadedState
from tests import tiny

PROFILES = {
    "one long among short": [5, 6, 9, 12, 13, 16, 70, 147],
    "all alike": [40] * 5,
    "nearly alike": [37, 38, 39, 40, 40],
    "as good as nothing": [1, 2, 3],
    "one token": [1],
}


def texts_of(lengths, seed=0):
    draw = random.Random(seed)
    return [TokenSpan((0, *(draw.randrange(2, tiny.VOCAB_SIZE) for _ in range(n - 1))), n - 1, n) for n in lengths]


def reader_of(folder, texts, dtype="float32"):
    model = find_model(str(folder))
    loading = Loading(
        model=model, facts=read_facts(model), deepest=tiny.N_LAYERS - 1, dtype=dtype, device=torch.device("cpu")
    )
    return load_reader(loading, tuple(range(tiny.N_LAYERS)), texts, batch_size=32, batch_tokens=4096)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models by family, made once."""
    root = tmp_path_factory.mktemp("families")
    made = {}

    def get(family):
        if family not in made:
            made[family] = tiny.make_model(root / family, family)
        return made[family]

    return get


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "bert", "deepseek-v32", "bigbird"])
def test_the_self_test_runs_at_most_eight_times_the_longest_texts_tokens(family, dtype, models, monkeypatch):
    n_run = []
    real = capture._forward

    def counted(backbone, ids_bt, *args, **kwargs):
        n_run.append(ids_bt.numel())
        return real(backbone, ids_bt, *args, **kwargs)

    monkeypatch.setattr(capture, "_forward", counted)
    for lengths in PROFILES.values():
        n_run.clear()
        reader_of(models(family), texts_of(lengths), dtype)
        assert sum(n_run) <= 8 * max(lengths), lengths


def test_the_self_test_says_what_it_ran(models, caplog):
    caplog.set_level(logging.INFO, "actlab")
    reader_of(models("llama"), texts_of(PROFILES["one long among short"]))
    assert "self-test on texts of 5, 12, 147 tokens" in caplog.text
    assert "times the longest" in caplog.text


def test_texts_on_two_sides_of_a_limit_never_share_a_batch(models):
    # gemma2 here has a window of 16; the dense run of its config names no other length
    reader = reader_of(models("gemma2"), texts_of([10, 16, 17, 60]))
    assert reader.facts.limits == (16,)
    assert reader.group(10) == reader.group(16)
    assert reader.group(17) == reader.group(60)
    assert reader.group(16) != reader.group(17)


def test_a_length_that_was_not_tried_shares_its_batch_with_its_like_alone(models):
    reader = reader_of(models("llama"), texts_of([10, 20, 40]))
    assert reader.group(10) == reader.group(33) == reader.group(40)
    assert len({reader.group(n) for n in (10, 9, 8, 60, 61)}) == 5
    assert reader.group(61) == reader.group(61)


def test_of_texts_of_one_length_the_prompts_lengths_are_tried(models):
    texts = [one._replace(start=stop - 1, stop=stop) for stop, one in zip((9, 5, 30), texts_of([40] * 3), strict=True)]
    reader = reader_of(models("llama"), texts)
    assert reader.proven == ((5, 42),)


def weakly_bidirectional(folder, strength):
    """A BERT whose tokens hardly look at one another: below bfloat16's old tolerance, above its rounding."""
    tiny.make_model(folder, "bert")
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    for name, parameter in model.named_parameters():
        if name.endswith("attention.output.dense.weight"):
            parameter.data *= strength
    model.save_pretrained(folder)
    return folder


def test_a_leak_that_hides_behind_half_precision_is_found(tmp_path):
    folder = weakly_bidirectional(tmp_path / "weak", 0.05)
    texts = texts_of(PROFILES["one long among short"])
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([texts[0].ids])
    with torch.no_grad():
        alone = model(input_ids=ids).last_hidden_state[0, -1]
        padded = model(input_ids=torch.cat([ids, ids + 1, ids + 2], dim=1)).last_hidden_state[0, len(texts[0].ids) - 1]
    leak = float((alone - padded).norm() / alone.norm())
    assert 1e-3 < leak < 8e-2, "the model leaks, by less than bfloat16's tolerance"
    assert reader_of(folder, texts, "bfloat16").padding == "right, masked"


@pytest.mark.parametrize(("family", "padding"), [("llama", "right, no mask"), ("bert", "right, masked")])
def test_a_quantised_model_is_measured_against_its_own_noise(family, padding, models):
    model = find_model(str(models(family)))
    facts = read_facts(model)
    loading = Loading(model=model, facts=facts, deepest=3, dtype="bfloat16", device=torch.device("cpu"))
    backbone = dataclasses.replace(load_backbone(loading), is_quantised=True)
    for lengths in PROFILES.values():
        kept_back = min(lengths) + 2 * max(lengths)
        proof = prove_padding(backbone, facts, texts_of(lengths), fresh=lambda: backbone, kept_back=kept_back)
        assert proof.n_tokens + kept_back <= 8 * max(lengths)
        if min(lengths) < max(lengths) > 10:
            assert proof.padding == padding


def test_every_text_is_run_by_the_model_as_it_was_loaded(models):
    texts = texts_of([5, 60, 6, 80])
    backbone = load_backbone(
        Loading(
            model=find_model(str(models("bigbird"))),
            facts=read_facts(find_model(str(models("bigbird")))),
            deepest=3,
            dtype="float32",
            device=torch.device("cpu"),
        )
    )
    kinds = []
    for text in texts:
        kinds.append(backbone.module.attention_type)
        capture.residual_rows(backbone, torch.tensor([text.ids]), None, (0, 3), capture.last_of(torch.tensor([0])))
    assert kinds == ["block_sparse"] * 4
    assert backbone.state.was_changed


def test_whatever_a_forward_pass_may_change_is_put_back():
    class Restless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)
            self.register_buffer("table", torch.arange(3.0))
            self.longest = 8
            self.mode = "sparse"
            self.kept = torch.ones(2)
            self.config = transformers.LlamaConfig(num_hidden_layers=2)

    module = Restless()
    linear, table, kept = module.inner, module.table, module.kept
    state = LoadedState(module)
    state.restore()
    assert not state.was_changed
    module.longest, module.mode = 99, "full"
    module.inner = torch.nn.Identity()
    module.table.mul_(2)
    module.kept = torch.zeros(2)
    module.seen = 3
    module.config.num_hidden_layers = 7
    state.restore()
    assert state.was_changed
    assert (module.longest, module.mode, module.config.num_hidden_layers) == (8, "sparse", 2)
    assert module.inner is linear
    assert module.kept is kept
    assert module.table is table
    assert module.table.tolist() == [0.0, 1.0, 2.0]
    assert not hasattr(module, "seen")
    module.register_buffer("table", torch.zeros(1))
    state.restore()
    assert module.table is table


def test_recomputing_takes_the_longest_row_first_then_the_shortest_then_lengths_between():
    lengths = [12] * 40 + [14] * 40 + [90, 147, 3]
    for n_rows in (1, 2, 4, 83, 100):
        rows = _by_length(lengths, n_rows, split="EM")
        assert len(set(rows)) == min(n_rows, len(lengths))
        assert 81 in rows, "the longest"
        assert n_rows < 2 or 82 in rows, "the shortest"
    assert len({lengths[row] for row in _by_length(lengths, 8, split="EM")}) >= 4


def test_a_dump_by_a_model_of_two_kinds_of_attention_is_recomputed_row_by_row(models, write_rows, tmp_path):
    rows = [{"text": word} for word in ("so", "it rains", "bread")]
    rows.insert(1, {"text": " ".join(tiny.TEXTS)})
    data = write_rows(rows)
    (dump,) = actlab.extract_activations(model=models("bigbird"), dataset=data, output=tmp_path / "out")
    found = actlab.verify_activations(dump.path, recompute=4, model=str(models("bigbird")), dataset=str(data))
    assert found.problems == []
    assert found.recomputed.n_rows == 4
    metadata = json.loads((dump.path / "text" / "metadata.json").read_text())
    assert metadata["total_examples"] == 4


def test_the_reader_and_the_model_alone_agree_at_every_length(models):
    texts = texts_of(range(1, 60), seed=1)
    for family in ("deepseek-v32", "phi3-longrope", "bigbird"):
        reader = reader_of(models(family), texts)
        rows = read_states(reader, texts)
        for text, row_ld in zip(texts[::7], rows[::7], strict=True):
            truth, _ = tiny.oracle_states(models(family), family, list(text.ids))
            error = (row_ld - truth[:, -1]).norm(dim=-1) / truth[:, -1].norm(dim=-1)
            assert error.max() < 1e-5, (family, len(text.ids))
