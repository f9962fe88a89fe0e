"""Before a run: what the self-test finds out, on which texts, and at what cost."""

import copy
import dataclasses
import json
import logging
import random

import pytest
import torch
import transformers

import actlab
from actlab.activations.job import extract_activations
from actlab.activations.verify.recompute import _by_length
from actlab.backends import capture
from actlab.backends import proof as proof_module
from actlab.backends.hub import find_model
from actlab.backends.models import Loading, load_backbone, read_facts
from actlab.backends.proof import n_unlike_blocks, prove_padding, relative_error
from actlab.backends.reader import TokenSpan, read_states
from actlab.backends.selftest import load_reader
from actlab.backends.state import LoadedState
from actlab.ground.job import cost
from tests import tiny

PROFILES = {
    "one long among short": [5, 6, 9, 12, 13, 16, 70, 147],
    "all alike": [40] * 5,
    "nearly alike": [37, 38, 39, 40, 40],
    "as good as nothing": [1, 2, 3],
    "one token": [1],
    "one text": [92],
    "two short of three": [90, 92, 100],
}


def texts_of(lengths, seed=0):
    draw = random.Random(seed)
    return [TokenSpan((0, *(draw.randrange(2, tiny.VOCAB_SIZE) for _ in range(n - 1))), n - 1, n) for n in lengths]


def loading_of(folder, dtype="float32"):
    model = find_model(str(folder))
    facts = read_facts(model)
    return Loading(model=model, facts=facts, deepest=tiny.N_LAYERS - 1, dtype=dtype, device=torch.device("cpu"))


def backbone_of(folder):
    return load_backbone(loading_of(folder))


def reader_of(folder, texts, dtype="float32", batch_size=32):
    layers = tuple(range(tiny.N_LAYERS))
    return load_reader(loading_of(folder, dtype), layers, texts, batch_size=batch_size, batch_tokens=4096)


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


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        *(
            (family, dtype)
            for family in ("llama", "bert", "deepseek-v32", "bigbird")
            for dtype in ("float32", "bfloat16")
        ),
        ("fnet", "float32"),  # its Fourier transform knows no bfloat16
    ],
)
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


def changed_block(monkeypatch, forward_of):
    """Give every Llama block another forward, made from its own."""
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    monkeypatch.setattr(LlamaDecoderLayer, "forward", forward_of(LlamaDecoderLayer.forward))


def test_a_batch_that_gives_nan_where_a_text_alone_gives_numbers_is_no_agreement(models, monkeypatch):
    def forward_of(real):
        def forward(self, hidden, *args, **kwargs):
            out = real(self, hidden, *args, **kwargs)
            return out if len(out) == 1 else torch.where(torch.arange(len(out))[:, None, None] > 0, torch.nan, out)

        return forward

    changed_block(monkeypatch, forward_of)
    with pytest.raises(actlab.ActlabError, match="differ by inf"):
        reader_of(models("llama"), texts_of([10, 20, 20, 40]))


def test_a_model_that_mixes_the_rows_of_a_batch_is_read_one_by_one_alone(models, monkeypatch):
    def forward_of(real):
        return lambda self, hidden, *args, **kwargs: real(self, hidden, *args, **kwargs) + 0.1 * hidden.sum(0)

    changed_block(monkeypatch, forward_of)
    texts = texts_of([10, 20, 40])
    with pytest.raises(actlab.ActlabError) as caught:
        reader_of(models("llama"), texts)
    assert "--batch-size 1" in caught.value.hint
    assert reader_of(models("llama"), texts, batch_size=1).padding == "none"


def test_a_model_that_puts_tokens_in_front_is_refused(models, monkeypatch):
    def forward_of(real):
        def forward(self, hidden, *args, **kwargs):
            out = real(self, hidden, *args, **kwargs)
            return torch.cat([out[:, :1], out], dim=1) if self.self_attn.layer_idx == 3 else out

        return forward

    changed_block(monkeypatch, forward_of)
    with pytest.raises(actlab.ActlabError, match="block 3 gives 11 tokens for 10"):
        reader_of(models("llama"), texts_of([10, 20, 40]))


def test_padding_stays_within_a_limit_by_any_of_its_names(tmp_path):
    config = transformers.MptConfig(vocab_size=tiny.VOCAB_SIZE, d_model=32, n_heads=4, n_layers=4, max_seq_len=64)
    folder = tiny.save_random(tmp_path / "mpt", config)
    assert reader_of(folder, texts_of([10, 30, 64])).padding == "right, no mask"


def test_texts_at_the_limit_of_a_model_that_counts_positions_from_its_pad_token_are_read(tmp_path):
    config = transformers.LongformerConfig(
        vocab_size=tiny.VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=66,
        attention_window=[16] * 4,
        pad_token_id=1,
    )
    folder = tiny.save_random(tmp_path / "longformer", config, transformers.AutoModelForMaskedLM)
    assert read_facts(find_model(str(folder))).max_positions == 64
    assert reader_of(folder, texts_of([5, 30, 64])).padding == "right, masked"


def test_the_float32_cut_has_a_block_of_every_kind(tmp_path):
    folder = tiny.make_model(tmp_path / "llama", "llama")
    config = transformers.Qwen2Config.from_pretrained(folder)
    config.num_hidden_layers = 12
    config.layer_types = ["full_attention"] * 10 + ["sliding_attention"] * 2
    backbone = dataclasses.replace(backbone_of(folder), module=torch.nn.Module())
    backbone.module.config = config
    blocks = [copy.deepcopy(backbone.blocks[0]) for _ in range(12)]
    assert n_unlike_blocks(dataclasses.replace(backbone, blocks=blocks)) == 11
    config.layer_types = None
    assert n_unlike_blocks(dataclasses.replace(backbone, blocks=blocks)) == 8
    blocks[9].extra = torch.nn.Dropout()
    assert n_unlike_blocks(dataclasses.replace(backbone, blocks=blocks)) == 10


def test_the_plan_counts_the_float32_copy_of_a_model_in_half_precision(models, write_rows, tmp_path):
    data = write_rows([{"text": "it rains"}])
    settings = {"model": models("llama"), "dataset": data, "output": tmp_path / "out"}
    plans = [cost(extract_activations, **settings, model_dtype=dtype)[0] for dtype in ("float32", "bfloat16")]
    weights = (models("llama") / "model.safetensors").stat().st_size
    assert plans[1].bytes_of_memory - plans[0].bytes_of_memory > 1.9 * weights, "all four blocks, twice as large"


def test_a_device_that_has_little_memory_gets_a_smaller_float32_cut(models, monkeypatch, caplog):
    real = proof_module._cut

    def cut(backbone, n_blocks):
        if n_blocks > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(backbone, n_blocks)

    monkeypatch.setattr(proof_module, "_cut", cut)
    assert reader_of(models("llama"), texts_of([5, 20]), "bfloat16").padding == "right, no mask"
    assert "1 blocks in place of twice as many" in caplog.text


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
        kept_back = min(lengths) + len({min(lengths), max(lengths)}) * max(lengths)
        proof = prove_padding(backbone, facts, texts_of(lengths), kept_back=kept_back)
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
    module.longest, module.mode = 99, "full"
    module.inner = torch.nn.Identity()
    module.table.mul_(2)
    module.kept.zero_()
    module.kept = torch.zeros(2)
    module.seen = 3
    module.config.num_hidden_layers = 7
    state.restore()
    assert (module.longest, module.mode, module.config.num_hidden_layers) == (8, "sparse", 2)
    assert module.inner is linear
    assert module.kept is kept
    assert kept.tolist() == [1.0, 1.0]
    assert module.table is table
    assert module.table.tolist() == [0.0, 1.0, 2.0]
    assert not hasattr(module, "seen")
    module.register_buffer("table", torch.zeros(1))
    module.longest = torch.ones(3)  # from a number to a tensor
    state.restore()
    assert module.table is table
    assert module.longest == 8


def test_what_cannot_be_put_back_is_refused():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    module.register_buffer("packed_weights", torch.zeros(5000))  # in the checkpoint, so there is no copy
    state = LoadedState(module)
    module.packed_weights += 1
    with pytest.raises(actlab.ActlabError, match="in a way that cannot be put back"):
        state.restore()


def test_what_only_one_of_two_can_compute_is_no_agreement():
    numbers, lost = torch.ones(2, 3), torch.full((2, 3), torch.nan)
    assert relative_error(lost, numbers) == relative_error(numbers, lost) == float("inf")
    assert relative_error(lost, lost) == 0.0, "dropped by name"


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
    found = actlab.verify_dataset(dump.path, recompute=4, model=str(models("bigbird")), dataset=str(data))
    assert found.problems == []
    assert found.recomputed.n_rows == 4
    metadata = json.loads((dump.path / "text" / "metadata.json").read_text())
    assert metadata["total_examples"] == 4


def test_the_reader_and_the_model_alone_agree_at_every_length(models):
    texts = texts_of([*range(1, 60), *range(1, 60)], seed=1)
    paddings = {"deepseek-v32": "none", "phi3-longrope": "right, no mask", "bigbird": "none"}
    for family, padding in paddings.items():
        reader = reader_of(models(family), texts)
        assert reader.padding == padding
        rows = read_states(reader, texts)
        for text, row_ld in zip(texts[::7], rows[::7], strict=True):
            truth, _ = tiny.oracle_states(models(family), family, list(text.ids))
            error = (row_ld - truth[:, -1]).norm(dim=-1) / truth[:, -1].norm(dim=-1)
            assert error.max() < 1e-5, (family, len(text.ids))
