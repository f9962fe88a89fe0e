"""Every command that computes on a device, on one that is strict about what lies where: results are the CPU's."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import actlab
from actlab.backends import models, selftest
from actlab.backends.devices import device_errors
from actlab.backends.gpt_trainer import Shape, Vocabulary, new_gpt, new_optimizer, train_step
from actlab.backends.hub import find_model
from actlab.backends.memory import is_out_of_memory
from actlab.backends.reader import TokenSpan, read_states, read_tokens
from actlab.backends.saes.find import Encoders, find_saes
from actlab.features.encode.compute import latents_of
from actlab.features.train_sae import compute as sae_training
from tests import test_train_gpt, test_training, tiny
from tests.command_line import fails_in_two_lines, run
from tests.conftest import make_rows
from tests.fake_device import NO_FLOAT64, NOT_IMPLEMENTED, Counts, FakeDevice, aten
from tests.folders import hashes
from tests.made_saes import random_weights, write_gemma_scope, write_saelens
from tests.test_encode import SENTENCES, write_csv

tokens = test_train_gpt.tokens


@pytest.fixture
def on_mps(monkeypatch):
    """Make this machine one with MPS, as `on_mps()` has it."""

    def make(**settings) -> FakeDevice:
        device = FakeDevice("mps", **settings)
        device.n_emptied = 0

        def empty_cache() -> None:
            device.n_emptied += 1

        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        monkeypatch.setattr(torch.mps, "empty_cache", empty_cache)
        return device

    return make


@pytest.fixture
def few(write_rows) -> Path:
    return write_rows(make_rows(6), "few.jsonl")


def extract(model, dataset, output, **settings):
    (dump,) = actlab.extract_activations(model=model, dataset=dataset, output=output, batch_size=4, **settings)
    return dump.path


# The stand-in itself, by hand


def test_a_tensor_lies_where_it_was_sent_and_so_does_what_is_made_of_it():
    device, here = FakeDevice(), torch.arange(6.0).reshape(2, 3)
    with device():
        there = here.to("mps")
        made = [
            there,
            there + 1,
            2 * there[0],
            there.T,
            torch.zeros_like(there),
            there.new_ones(3),
            torch.arange(3, device="mps"),
            torch.tensor([1.0, 2.0], device=there.device),
            torch.randn(2, 3).to(there),
            torch.stack([there, there]),
            nn.functional.one_hot(torch.tensor([0, 2], device="mps")),
            nn.Linear(3, 2).to(torch.device("mps")).weight,
        ]
        assert {str(one.device) for one in made} == {"mps:0"}
        assert {(one.is_mps, one.is_cpu) for one in made} == {(True, False)}
        host = [here, there.cpu(), there.to("cpu"), torch.zeros(2), torch.zeros_like(there, device="cpu")]
        assert {str(one.device) for one in host} == {"cpu"}
        back = there.cpu()
        back += 1
        assert torch.equal(there.cpu(), here), "the host's copy shares no memory"
        assert torch.equal((2 * there + there.T.T).cpu(), 3 * here)
    assert here.device.type == (2 * there).device.type == "cpu", "it is there for so long, and no longer"


@pytest.mark.parametrize(
    "asked",
    [
        lambda there: there.double(),
        lambda there: there.to(torch.float64),
        lambda there: there.to("cpu", torch.float64),
        lambda there: there.sum(dtype=torch.float64),
        lambda there: there + np.float64(1) * torch.ones(1, dtype=torch.float64),
        lambda there: torch.zeros(2, device="mps", dtype=torch.float64),
        lambda there: torch.tensor(np.ones(2), device="mps"),
        lambda there: torch.ones(2, dtype=torch.float64).to("mps"),
        lambda there: torch.ones(2, 3, dtype=torch.float64).copy_(there),
        lambda there: nn.Linear(2, 2).double().to("mps"),
        lambda there: there.numpy(),
        lambda there: np.asarray(there),
        lambda there: there @ torch.ones(3, 3),
        lambda there: torch.cat([there, torch.ones(2, 3)]),
        lambda there: there.sum() * torch.ones(2),
        lambda there: nn.functional.linear(there, torch.ones(4, 3)),
        lambda there: torch.ones(2, 3)[there > 0],
        lambda there: torch.randn(2, device="mps", generator=torch.Generator()),
    ],
)
def test_what_mps_cannot_do_is_refused(asked):
    device = FakeDevice()
    with device():
        there = torch.ones(2, 3).to("mps")
        with pytest.raises((TypeError, RuntimeError), match=r"MPS|mps"):
            asked(there)
        there.cpu().double().numpy()
        torch.ones(2, 3, dtype=torch.float64).to("mps", torch.float32)
        there + torch.tensor(2.0) * np.float64(3)


@pytest.mark.parametrize(
    ("asked", "counts"),
    [
        (lambda there, mask: there + 1, Counts(0, 0, 0)),
        (lambda there, mask: there.to("mps"), Counts(0, 0, 0)),
        (lambda there, mask: torch.ones(2).to("mps"), Counts(1, 0, 0)),
        (lambda there, mask: torch.tensor([1, 2], device="mps"), Counts(1, 0, 0)),
        (lambda there, mask: torch.zeros(2, device="mps"), Counts(0, 0, 0)),
        (lambda there, mask: there[torch.tensor([0, 1])], Counts(1, 0, 0)),
        (lambda there, mask: there.copy_(torch.ones(2, 3)), Counts(1, 0, 0)),
        (lambda there, mask: there.cpu(), Counts(0, 1, 1)),
        (lambda there, mask: there.tolist(), Counts(0, 1, 1)),
        (lambda there, mask: torch.ones(2, 3).copy_(there), Counts(0, 1, 1)),
        (lambda there, mask: there.sum().item(), Counts(0, 0, 1)),
        (lambda there, mask: bool((there > 0).all()), Counts(0, 0, 1)),
        (lambda there, mask: there[mask], Counts(0, 0, 1)),
        (lambda there, mask: there.masked_fill(mask, 0.0), Counts(0, 0, 0)),
        (lambda there, mask: mask.nonzero(), Counts(0, 0, 1)),
        (lambda there, mask: [float(one) for one in there[0].cpu()], Counts(0, 1, 1)),
        (lambda there, mask: torch.ones(2).sum().item(), Counts(0, 0, 0)),
    ],
)
def test_copies_and_waits_are_counted(asked, counts):
    device = FakeDevice()
    with device():
        there = torch.ones(2, 3).to("mps")
        mask = there > 0
        before = dataclasses.replace(device.counts)
        asked(there, mask)
    assert device.counts - before == counts


def test_a_training_step_there_is_the_cpus():
    def trained(place: str) -> torch.Tensor:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).to(place)
        optimizer = torch.optim.AdamW(network.parameters(), foreach=True)
        loss = nn.functional.cross_entropy(network(torch.randn(5, 4).to(place)), torch.arange(5).to(place) % 2)
        torch.autograd.backward(loss)
        assert network[0].weight.grad.device.type == place
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return network[0].weight.detach().cpu()

    expected = trained("cpu")
    with FakeDevice()():
        result = trained("mps")
    assert torch.equal(result, expected)


# The commands


@pytest.mark.parametrize(
    ("family", "position", "dtype", "asked"),
    [
        ("llama", "last", "float32", "auto"),
        ("gpt2", "-2", "float16", "mps"),
        ("bert", "response-mean", "bfloat16", "mps"),
        ("phi3-longrope", "mean", "float32", "mps"),
    ],
)
def test_extraction_there_gives_the_cpus_shards(family, position, dtype, asked, llama, few, tmp_path, on_mps):
    model = llama if family == "llama" else tiny.make_model(tmp_path / family, family)
    settings = {"position": position, "model_dtype": dtype, "dtype": "model"}
    expected = extract(model, few, tmp_path / "cpu", device="cpu", **settings)
    device = on_mps()
    with device():
        dump = extract(model, few, tmp_path / "mps", device=asked, **settings)
    assert device.counts.to_host > 0
    assert json.loads((dump / "manifest.json").read_text())["made_on"][0]["device"] == "mps"
    some, others = hashes(dump), hashes(expected)
    shards = [name for name in others if name.endswith(".pt")]
    assert shards
    assert {name: some[name] for name in shards} == {name: others[name] for name in shards}


def test_a_dump_of_the_cpu_is_verified_there(llama, few, tmp_path, on_mps):
    dump = extract(llama, few, tmp_path / "cpu", device="cpu", dtype="float32")
    device = on_mps()
    with device():
        report = actlab.verify_dataset(dump, recompute=2, model=str(llama), dataset=str(few), device="mps")
    assert not report.problems
    assert device.counts.to_host > 0


@pytest.fixture(scope="module")
def saes(tmp_path_factory) -> Path:
    """One of each architecture."""
    root = tmp_path_factory.mktemp("saes")
    for layer, architecture in enumerate(("standard", "gated", "topk", "batchtopk")):
        write_saelens(root / architecture, architecture, layer)
    write_gemma_scope(root, 3, 10, random_weights("jumprelu"))
    return root


def arrays(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


def test_features_there_are_the_cpus_by_a_model_and_from_stored_states(llama, saes, tmp_path, on_mps):
    settings = {"sae": saes, "quiet": True, "l0_check": "off"}
    source = {"input": write_csv(tmp_path / "s.csv", SENTENCES[:2]), "model": llama}
    actlab.compute_features(**source, output=tmp_path / "cpu", device="cpu", **settings)
    sparse = {"storage": "sparse", "dtype": "float16"}
    actlab.compute_features(**source, output=tmp_path / "cpu-sparse", device="cpu", **settings, **sparse)
    device = on_mps()
    with device():
        actlab.compute_features(**source, output=tmp_path / "mps", device="mps", **settings)
        before = dataclasses.replace(device.counts)
        again = {"from_hidden": tmp_path / "cpu", "device": "mps"}
        actlab.compute_features(**again, output=tmp_path / "again", **settings, **sparse)
        assert (device.counts - before).to_host >= 5, "a copy an SAE at least"
    expected = arrays(tmp_path / "cpu")
    assert len(expected) == 2
    assert arrays(tmp_path / "mps") == expected
    assert arrays(tmp_path / "again") == arrays(tmp_path / "cpu-sparse")


@pytest.mark.parametrize("architecture", ["topk", "jumprelu"])
def test_saes_trained_there_are_the_cpus(architecture, llama, few, tmp_path, on_mps, monkeypatch):
    monkeypatch.setattr(sae_training, "_DEAD_AFTER_TOKENS", 40)  # so that dead features are revived
    settings = {"architecture": architecture, "layers": "1", "n_features": 64, "k": 2, "n_steps": 6, "batch_size": 16}
    settings |= {"input": few, "model": llama, "quiet": True, "tensorboard": False}
    expected = actlab.train_sae(output=tmp_path / "cpu", device="cpu", **settings).path
    with on_mps()():
        made = actlab.train_sae(output=tmp_path / "mps", device="mps", **settings).path
    metadata = [json.loads((folder / "metadata.json").read_text()) for folder in (made, expected)]
    assert metadata[0]["results"] == metadata[1]["results"]
    assert metadata[0]["results"]["1"]["dead_share"] > 0
    file = "layer_01/sae_weights.safetensors"
    assert (made / file).read_bytes() == (expected / file).read_bytes()


def test_a_gpt_trained_there_stopped_and_resumed_is_the_cpus(tokens, tmp_path, on_mps, monkeypatch):
    monkeypatch.setitem(test_train_gpt.SHAPES, "tiny", test_train_gpt.Shape(16, 2, 2, intermediate=32))
    settings = test_train_gpt.SETTINGS | {"input": tokens, "steps": 6, "sample_tokens": 4, "n_samples": 1}
    expected = actlab.train_gpt(output=tmp_path / "cpu", device="cpu", **settings)
    with on_mps()():
        with monkeypatch.context() as patch:
            test_train_gpt.stop_after(patch, 4)
            with pytest.raises(test_train_gpt.Stopped):
                actlab.train_gpt(output=tmp_path / "mps", device="mps", **settings)
        made = actlab.train_gpt(output=tmp_path / "mps", device="mps", **settings)
    assert dataclasses.replace(made, path=expected.path) == expected
    assert (made.path / "model.safetensors").read_bytes() == (expected.path / "model.safetensors").read_bytes()


def test_networks_trained_there_are_the_cpus():
    schedule = dataclasses.replace(
        test_training.SCHEDULE, quantization="ternary", epochs=3, max_degraded_epochs=2, improvement_epochs=2
    )
    specs = [test_training.make_spec(number, layers=2, dropout=0.2 * (number == 4)) for number in (3, 4, 8)]
    many, one = test_training.train_many(specs, schedule), test_training.train_one(specs[1], schedule)
    with FakeDevice()():
        many_there = test_training.train_many(specs, schedule, device="mps")
        one_there = test_training.train_one(specs[1], schedule, device="mps")
    assert test_training.accuracies([*many_there, one_there]) == test_training.accuracies([*many, one])
    assert test_training.share_of_equal_weights([*many_there, one_there], [*many, one]) > 0.99


# Three rows by the CPU


def wrong_from_token_20(x):
    """A SiLU that is 1 % off from the 20th token on: a row's own result, whatever it is batched with."""
    result = aten.silu.default(x)
    return torch.cat([result[:, :20], 1.01 * result[:, 20:]], dim=1)


def test_rows_that_mps_computes_wrongly_alone_and_batched_alike_stop_the_run(llama, few, tmp_path, on_mps, monkeypatch):
    device = on_mps(wrong={aten.silu.default: wrong_from_token_20})
    says = r"mps in torch.float32 and the CPU differ by [\d.]+e-0\d .* on a row of 25 tokens"
    with device(), pytest.raises(actlab.ActlabError, match=says) as caught:
        extract(llama, few, tmp_path / "out", device="mps")
    assert "--device cpu" in caught.value.hint
    assert not (tmp_path / "out" / "tiny-llama" / "few").exists()
    monkeypatch.setattr(selftest, "UNPROVEN", ())
    with device():
        assert extract(llama, few, tmp_path / "out", device="mps").is_dir(), "nothing else notices it"


def test_the_rows_for_the_cpu_are_the_shortest_the_median_and_the_longest():
    spans = [TokenSpan((1,) * n, 0, n) for n in (5, 9, 2, 7, 30)]
    chosen = selftest.shortest_median_longest(spans)
    assert [len(one.ids) for one in chosen] == [2, 7, 30]
    assert [len(one.ids) for one in selftest.shortest_median_longest(spans[:1])] == [5]
    assert [len(one.ids) for one in selftest.shortest_median_longest(spans[:2])] == [5, 9]


def test_the_cpu_is_asked_on_mps_alone(llama, few, tmp_path, monkeypatch):
    monkeypatch.setattr(selftest, "rows_on_cpu", lambda *args, **kwargs: pytest.fail("the CPU was asked"))
    extract(llama, few, tmp_path / "out", device="cpu")


# What a device refuses


def test_an_operation_that_mps_lacks_is_two_lines_with_a_way_out(llama, few, tmp_path, on_mps):
    line = ("extract-activations", "--model", llama, "--dataset", few, "--output", tmp_path, "--device", "mps")
    with on_mps(absent=frozenset({aten.silu.default}))():
        done = run(*line)
    fails_in_two_lines(done, 1, "aten::silu is not implemented on mps", "PYTORCH_ENABLE_MPS_FALLBACK=1")


def test_a_model_that_computes_in_float64_is_two_lines_on_mps(llama, few, tmp_path, on_mps, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP

    forward = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: forward(self, x.double().to(x.dtype)))
    line = ("extract-activations", "--model", llama, "--dataset", few, "--output", tmp_path, "--device", "mps")
    with on_mps()():
        done = run(*line)
    fails_in_two_lines(done, 1, "Cannot convert a MPS Tensor to float64", "--device cpu")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            NotImplementedError(NOT_IMPLEMENTED.format("aten::kthvalue.values", "0123abc")),
            "aten::kthvalue.values is not",
        ),
        (
            NotImplementedError(
                "Could not run 'aten::_unique2' with arguments from the 'MPS' backend. This could be because the "
                "operator doesn't exist for this backend"
            ),
            "aten::_unique2 is not",
        ),
        (TypeError("BFloat16 is not supported on MPS"), "BFloat16 is not supported on MPS"),
        (TypeError(NO_FLOAT64), "Cannot convert a MPS Tensor to float64"),
    ],
)
def test_what_mps_says_of_operations_and_dtypes_is_told_with_a_way_out(error, says):
    with pytest.raises(actlab.ActlabError, match=says) as caught, device_errors(torch.device("mps")):
        raise error
    assert "--device cpu" in caught.value.hint
    for other in (TypeError("an integer is required"), RuntimeError("MPS backend out of memory")):
        with pytest.raises(type(other), match=str(other)), device_errors(torch.device("mps")):
            raise other


def test_other_errors_of_a_model_keep_their_traceback(llama, few, tmp_path, on_mps, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP

    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: x @ torch.ones(3, 3, device=x.device))
    with on_mps()(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        extract(llama, few, tmp_path, device="mps")


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "MPS backend out of memory (MPS allocated: 8.89 GB, other allocations: 172.98 MB, max allowed: 9.07 GB).",
        "Invalid buffer size: 9.75 GB",
        "[enforce fail at alloc_cpu.cpp:75] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
    ],
)
def test_every_way_of_saying_that_memory_is_out_is_known(text):
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_batch_too_large_for_metal_is_halved_and_the_cache_emptied(llama, few, tmp_path, on_mps, caplog):
    def of_two_rows_at_most(x):
        if len(x) > 2:
            raise RuntimeError("Invalid buffer size: 9.75 GB")
        return aten.silu.default(x)

    expected = extract(llama, few, tmp_path / "cpu", device="cpu", dtype="float32")
    device = on_mps(wrong={aten.silu.default: of_two_rows_at_most})
    with device():
        dump = extract(llama, few, tmp_path / "out", device="mps", dtype="float32")
    assert device.n_emptied >= 2
    assert "out of memory with 4 examples in a batch" in caplog.text
    one, other = (actlab.open_activations(path, "EM")[3][:] for path in (dump, expected))
    assert torch.allclose(one, other, atol=1e-5)


def full(*_args):
    raise torch.OutOfMemoryError("MPS backend out of memory (MPS allocated: 8.89 GB). Tried to allocate 6.25 MB")


def test_a_model_an_sae_or_a_training_that_does_not_fit_is_two_lines(llama, saes, few, tmp_path, on_mps, monkeypatch):
    device = on_mps()
    monkeypatch.setattr(device, "copied_there", full)
    with device(), pytest.raises(actlab.ActlabError, match="out of memory on mps") as caught:
        extract(llama, few, tmp_path / "out", device="mps")
    assert "--layers" in caught.value.hint
    source = write_csv(tmp_path / "s.csv", SENTENCES[:1])
    settings = {"sae": saes, "layers": "0", "quiet": True, "l0_check": "off"}
    actlab.compute_features(input=source, model=llama, output=tmp_path / "cpu", device="cpu", **settings)
    with device(), pytest.raises(actlab.ActlabError, match="out of memory on mps") as caught:
        actlab.compute_features(from_hidden=tmp_path / "cpu", output=tmp_path / "again", device="mps", **settings)
    assert "--device cpu" in caught.value.hint
    with device(), pytest.raises(actlab.ActlabError, match="out of memory on mps"):
        test_training.train_many([test_training.make_spec(0)], test_training.SCHEDULE, device="mps")


def test_a_self_test_that_does_not_fit_is_two_lines(llama, few, tmp_path, on_mps):
    def of_few_tokens(x):
        return aten.silu.default(x) if x.shape[-2] < 26 else full()  # what is padded to see whether that matters

    with on_mps(wrong={aten.silu.default: of_few_tokens})():
        with pytest.raises(actlab.ActlabError, match="out of memory on mps") as caught:
            extract(llama, few, tmp_path, device="mps")
    assert "--max-length" in caught.value.hint


def test_a_training_step_that_does_not_fit_names_what_to_lower(llama, tokens, few, tmp_path, on_mps):
    device = on_mps(wrong={aten.topk.default: full, aten._log_softmax.default: full})
    settings = {"layers": "1", "n_features": 64, "k": 2, "quiet": True, "tensorboard": False, "device": "mps"}
    with device(), pytest.raises(actlab.ActlabError, match="out of memory on mps") as caught:
        actlab.train_sae(input=few, model=llama, output=tmp_path / "sae", **settings)
    assert "--n-features" in caught.value.hint
    with device(), pytest.raises(actlab.ActlabError, match="out of memory on mps") as caught:
        actlab.train_gpt(output=tmp_path / "gpt", **test_train_gpt.SETTINGS | {"input": tokens, "device": "mps"})
    assert "--batch-size" in caught.value.hint


def test_cuda_is_asked_for_its_name_and_its_memory(llama, saes, few, tmp_path, monkeypatch):
    device, asked = FakeDevice("cuda"), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: asked.append(place) or "NVIDIA H200")

    def mem_get_info(place=None) -> tuple[int, int]:
        """Refuse what torch 2.4 refuses (pytorch issue 132583)."""
        if isinstance(place, (str, torch.device)) and torch.device(place).index is None:
            raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{place}")
        asked.append("memory")
        return 1 << 30, 2 << 30

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: asked.append("empty"))

    def of_two_rows_at_most(x):
        return aten.silu.default(x) if len(x) < 3 else full()

    device.wrong[aten.silu.default] = of_two_rows_at_most
    with device():
        dump = extract(llama, few, tmp_path / "out")  # auto
        source = write_csv(tmp_path / "s.csv", SENTENCES[:1])
        settings = {"sae": saes, "layers": "0", "quiet": True, "l0_check": "off"}
        actlab.compute_features(input=source, model=llama, output=tmp_path / "features", **settings)
    made_on = [json.loads((path / "manifest.json").read_text())["made_on"] for path in (dump, tmp_path / "features")]
    assert [(one[0]["device"], one[0]["machine"]) for one in made_on] == [("cuda", "NVIDIA H200")] * 2
    assert set(asked) == {torch.device("cuda"), "memory", "empty"}


# How much goes across


def counted(device: FakeDevice, n: int, work: Callable[[], object]) -> Counts:
    """Return what each of n batches takes; every one the same."""
    before = dataclasses.replace(device.counts)
    work()
    each = [divmod(value, n) for value in dataclasses.astuple(device.counts - before)]
    assert all(rest == 0 for _, rest in each), each
    return Counts(*(value for value, _ in each))


def show(what: str, counts: Counts) -> None:
    print(f"\n| {what} | {counts.to_device} | {counts.to_host} | {counts.waits} |", end="")  # noqa: T201


@pytest.mark.parametrize(("family", "n_masks"), [("llama", 0), ("bert", 1)])
def test_how_often_a_batch_of_a_model_goes_across(family, n_masks, llama, tmp_path, on_mps):
    """Today one mask or index a layer, and one wait a layer for every token; -s prints rows for docs/benchmarks.md."""
    folder = llama if family == "llama" else tiny.make_model(tmp_path / family, family)
    model, device, n_layers = find_model(str(folder), None, code=False), on_mps(), tiny.N_LAYERS
    ids = [tuple(range(first, first + 9)) for first in range(3, 9)]
    ways = {
        "one token a text": (read_states, [TokenSpan(one, 8, 9) for one in ids], 0),
        "mean over tokens": (read_states, [TokenSpan(one, 2, 9) for one in ids], 0),
        "every token": (read_tokens, [TokenSpan(one, 2, 9) for one in ids], n_layers),
    }
    with device():
        loading = models.Loading(
            model=model, facts=models.read_facts(model), deepest=n_layers - 1, device=torch.device("mps")
        )
        reader = selftest.load_reader(
            loading, tuple(range(n_layers)), ways["every token"][1], batch_size=2, batch_tokens=64
        )
        for way, (read, spans, n_waits) in ways.items():
            counts = counted(device, len(ids) // 2, lambda read=read, spans=spans: read(reader, spans))
            show(f"{family}, {n_layers} layers, {way}", counts)
            assert counts.to_device <= 1 + n_masks + n_layers
            assert counts.to_host == 1
            assert counts.waits <= 1 + n_waits


def test_how_often_a_batch_of_an_sae_or_a_training_step_goes_across(saes, on_mps):
    device, draw, batches = on_mps(), torch.Generator().manual_seed(0), [torch.randn(16, 32) for _ in range(3)]
    with device():
        for facts in find_saes([str(saes)]):
            encoder = Encoders([facts], device.place).get(facts)
            counts = counted(device, 3, lambda encoder=encoder: [latents_of(encoder, x_td) for x_td in batches])
            assert counts == Counts(1, 1, 1)
        show("compute-features, each SAE and 1,024 rows", counts)
        for name, over_batch, n_waits in (("topk", False, 5), ("jumprelu", True, 7)):
            sae = sae_training.Sae(32, 64, 2, over_batch=over_batch, draw=draw).to("mps")

            def steps(sae=sae) -> None:
                there = (x_td.to("mps") for x_td in batches)
                sae_training.train(sae, there, n_steps=3, learning_rate=0.001, on_step=lambda *_: None)

            counts = counted(device, 3, steps)
            show(f"train-sae, {name}, a step", counts)
            assert counts.to_device == 1
            assert counts.waits <= n_waits
        model = new_gpt("llama", Shape(16, 2, 2, intermediate=32), Vocabulary(50, None, 0), max_positions=32, seed=0)
        model.to("mps")
        optimizer = new_optimizer(model, weight_decay=0.1)
        windows = [torch.randint(0, 50, (2, 8)) for _ in range(3)]

        def gpt_steps() -> None:
            for input_bt in windows:
                train_step(model, optimizer, input_bt.to("mps"), input_bt.to("mps"), rate=0.001)

        counts = counted(device, 3, gpt_steps)
        show("train-gpt, a step", counts)
        assert (counts.to_device, counts.to_host) == (2, 0)
        assert counts.waits <= 2  # for the loss, and once by transformers
