"""Transformers as residual streams: read a config, load a backbone, find its blocks."""

import bisect
import importlib.metadata
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from actlab.backends.devices import device_errors
from actlab.backends.hub import ModelFolder, model_files, refuse_changed
from actlab.backends.quiet import quiet_transformers
from actlab.backends.state import LoadedState
from actlab.backends.tokenizers import FastTokenizer
from actlab.ground.errors import ConfigError, ModelError, foreign_errors
from actlab.ground.integrity import check_sealed
from actlab.ground.limits import JSON_BYTES
from actlab.ground.log import log
from actlab.ground.manifest import InputEntry

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedConfig

_HEADS = re.compile(r"(^|\.)(lm_head|embed_out|cls|score|classifier|predictions|output_layer|pooler)\b")
_WHOLE = "is it a complete model folder in Hugging Face format, its files whole?"
_POSITIONS_AFTER_PADDING = {
    *(
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "camembert",
        "xmod",
        "data2vec-text",
        "ibert",
    ),
    *("longformer", "mpnet", "esm", "luke", "lilt", "markuplm"),
}
"""Families that number positions from pad_token_id + 1, so that the first rows of their table are lost."""


@dataclass(frozen=True)
class ModelFacts:
    """What a model's config says, before any weight is read."""

    n_layers: int
    hidden_dim: int
    max_positions: int | None
    """The longest input it was made for, where it has a limit."""
    limits: tuple[int, ...]
    """Lengths at which it may compute differently, ascending: the config's windows, chunks, blocks, top-k, …"""
    config: "PreTrainedConfig"

    def side(self, n_tokens: int) -> int:
        """Return how many of the limits a text is longer than; texts that differ in it must not share a batch."""
        return bisect.bisect_left(self.limits, n_tokens)

    def causal_length(self, n_tokens: int, stop: int) -> int:
        """Return how many tokens a causal model has to run for the states before `stop`, of a text of `n_tokens`."""
        return stop if self.side(stop) == self.side(n_tokens) else n_tokens


_READ_WHOLE = (".json", ".model", ".txt", ".jinja", ".tiktoken")
_MOST_LAYERS, _MOST_WIDTH = 10_000, 1 << 20
"""Each block is built in memory before any weight is looked for; the largest models have some hundreds."""
_LIMIT = re.compile(
    r"(top_?k|window(_size)?|chunk_(size|len|length)|block_size|local_attention|original_max_position_embeddings)$"
)
"""Names of settings that say from which length on a model computes differently."""


@dataclass(frozen=True)
class Backbone:
    """A loaded model without its head, on its device, ready to be read."""

    module: nn.Module
    blocks: list[nn.Module]
    """From block 0 to the deepest asked for, and one more where the model has one."""
    n_layers: int
    """Blocks in the whole model."""
    hidden_dim: int
    vocab_size: int
    dtype: torch.dtype
    device: torch.device
    state: LoadedState
    """The module as it was loaded: each forward pass starts from it."""
    limits: tuple[int, ...] = ()
    """As in `ModelFacts`."""
    is_quantised: bool = False
    without_weights: tuple[tuple[str, nn.Module], ...] = ()
    """Modules outside the blocks whose weights the checkpoint lacks, by the weight: they must not run."""

    def pads_to(self, n_tokens: int, n_there: int) -> bool:
        """Whether the model itself makes a text so long, on the right, to fill whole blocks of attention."""
        return any(n_there == -(-n_tokens // limit) * limit for limit in self.limits)


def read_facts(model: ModelFolder) -> ModelFacts:
    """Read a model's config.

    Raises:
        ModelError: Transformers does not know it, or it has no single stream of blocks.
    """
    from transformers import AutoConfig

    _check_sealed(model)
    with foreign_errors(f"cannot read the config of {model.name}", hint=_WHOLE):
        config = AutoConfig.from_pretrained(model.path, trust_remote_code=model.code)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{model.name} is an encoder-decoder model: it has two streams, and actlab reads one",
            hint="use a decoder-only or an encoder-only model",
        )
    text = config.get_text_config(decoder=True)
    n_layers, hidden_dim = (getattr(text, key, None) for key in ("num_hidden_layers", "hidden_size"))
    if not isinstance(n_layers, int) or not isinstance(hidden_dim, int) or n_layers < 1 or hidden_dim < 1:
        raise ModelError(
            f"the config of {model.name} names no num_hidden_layers and hidden_size",
            hint="actlab reads transformer language models",
        )
    for n, most, what in ((n_layers, _MOST_LAYERS, "num_hidden_layers"), (hidden_dim, _MOST_WIDTH, "hidden_size")):
        if n > most:
            raise ModelError(f"the config of {model.name} names {n} as {what}, and no model has so many", hint=_WHOLE)
    names = ("max_position_embeddings", "max_seq_len", "n_positions", "max_sequence_length")
    limit = next((value for name in names if (value := getattr(text, name, None))), None)
    rope = getattr(text, "rope_parameters", None) or {}
    if limit and text.model_type in _POSITIONS_AFTER_PADDING:
        limit -= (text.pad_token_id or 0) + 1
    if rope.get("rope_type") == "dynamic":  # its factors depend on the longest input seen so far
        original = rope.get("original_max_position_embeddings")
        limit = original or getattr(text, "original_max_position_embeddings", None) or limit
    return ModelFacts(n_layers, hidden_dim, limit if limit and limit > 0 else None, _limits(text), config)


def _limits(config: "PreTrainedConfig") -> tuple[int, ...]:
    """Return the lengths at which a model may change how it computes, as far as its config names them."""
    found: set[int] = set()

    def look(settings: Mapping[str, object]) -> None:
        for key, value in settings.items():
            if isinstance(value, dict):
                look(value)
            elif _LIMIT.search(str(key)):
                several = value if isinstance(value, list | tuple) else [value]
                found.update(one for one in several if type(one) is int and one > 1)

    settings = config.to_dict()
    look(settings)
    blocks = (settings.get("block_size"), settings.get("num_random_blocks"))
    if all(type(one) is int for one in blocks):  # BigBird: shorter texts get full attention
        found.add((5 + 2 * blocks[1]) * blocks[0])
    return tuple(sorted(found))


def load_tokenizer(model: ModelFolder) -> FastTokenizer:
    """Load a model's tokenizer.

    Raises:
        ModelError: There is none, or it cannot tell where in the text its tokens lie.
    """
    from transformers import AutoTokenizer

    _check_sealed(model)
    hint = "save it into the model's folder with tokenizer.save_pretrained(folder)"
    with foreign_errors(f"cannot load the tokenizer of {model.name}", hint=hint):
        tokenizer: FastTokenizer = AutoTokenizer.from_pretrained(model.path, trust_remote_code=model.code)
        tokenizer.model_max_length = int(tokenizer.model_max_length)
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ModelError(f"the tokenizer of {model.name} knows no word: its files are missing", hint=hint)
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"the tokenizer of {model.name} does not give character offsets",
            hint="convert it to a fast tokenizer (tokenizer.json)",
        )
    return tokenizer


def _check_sealed(model: ModelFolder, *, weights: bool = False) -> None:
    """Compare the files of a model, or of a tokenizer alone, with the manifest that names them, as train-gpt's does.

    Raises:
        ModelError: One that is read whole is too large.
        StorageError: One is not as it was sealed.
    """
    for path in sorted(model.path.iterdir()):
        if path.suffix in _READ_WHOLE and path.is_file() and path.stat().st_size > JSON_BYTES:
            raise ModelError(f"{path} has more than {JSON_BYTES >> 20} MiB", hint="is it the right file?")
        if path.is_file() and (weights or path.suffix not in (".safetensors", ".bin")):
            check_sealed(path)


def token_limit(facts: ModelFacts, tokenizer: FastTokenizer, max_length: int) -> int:
    """Return the most tokens of an input: the smallest of a setting's, the model's and the tokenizer's limits."""
    return min(limit for limit in (max_length, facts.max_positions, tokenizer.model_max_length) if limit)


def pick_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda or mps into a device that is here.

    Raises:
        ConfigError: It is not here.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if here[kind]))
    if not here[name]:
        raise ConfigError(f"--device {name}: this machine has none", hint="use --device auto or cpu")
    return torch.device(name)


class OpenModel:
    """A model of which all is read but its weights."""

    def __init__(self, folder: ModelFolder, *, device: str, max_length: int) -> None:
        self.folder = folder
        self.device = pick_device(device)
        self.facts = read_facts(folder)
        self.tokenizer = load_tokenizer(folder)
        self.max_tokens = token_limit(self.facts, self.tokenizer, max_length)

    @cached_property
    def input_files(self) -> list[InputEntry]:
        """The manifest's entries for its files."""
        return [{"role": "model", **file} for file in model_files(self.folder)]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Which model to load, and how."""

    model: ModelFolder
    facts: ModelFacts
    deepest: int
    """The deepest block that is read."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """The dtype to compute in; "auto" is the checkpoint's own."""
    device: torch.device
    load_in_4bit: bool = False


def load_backbone(loading: Loading) -> Backbone:
    """Load a model without its head and cut off the blocks that are deeper than any asked for.

    One block more than the deepest is kept, so that the model's own `hidden_states` can be compared with
    the deepest block's output (its last entry comes after the final norm).

    Raises:
        ModelError: The weights are missing, incomplete or do not fit, or are not those that were hashed for the
            plan; or the blocks cannot be told apart.
    """
    from transformers import AutoModel

    model, facts, device, dtype = loading.model, loading.facts, loading.device, loading.dtype
    _check_sealed(model, weights=True)
    _refuse_unknown_quantisation(model, facts.config)
    extra: dict[str, object] = {}
    if loading.load_in_4bit:
        extra = {"quantization_config": _four_bit(device, dtype), "device_map": {"": device}}
    with quiet_transformers(), foreign_errors(f"cannot load {model.name}", hint=_WHOLE):
        whole, report = AutoModel.from_pretrained(
            model.path,
            config=facts.config,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            trust_remote_code=model.code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **extra,
        )
    refuse_changed(model.hashed)
    decoder = whole.get_decoder() if hasattr(whole, "get_decoder") else whole
    blocks = _find_blocks(model, decoder, facts)
    without_weights = _refuse_incomplete(model, report, whole, [*blocks, decoder.get_input_embeddings()])
    del blocks[loading.deepest + 2 :]
    decoder.eval()
    if not loading.load_in_4bit:
        hint = "load fewer blocks (--layers), use a smaller model or --model-dtype, or another --device"
        with device_errors(device, if_out_of_memory=hint):
            decoder.to(device)
    return Backbone(
        module=decoder,
        blocks=list(blocks),
        n_layers=facts.n_layers,
        hidden_dim=facts.hidden_dim,
        vocab_size=decoder.get_input_embeddings().num_embeddings,
        dtype=next(p.dtype for p in decoder.parameters() if p.is_floating_point()),
        device=device,
        state=LoadedState(decoder),
        limits=facts.limits,
        is_quantised=getattr(whole, "hf_quantizer", None) is not None,
        without_weights=without_weights,
    )


def _find_blocks(model: ModelFolder, decoder: nn.Module, facts: ModelFacts) -> nn.ModuleList:
    """Return the one list of modules that is as long as the model is deep."""
    lists = {name: module for name, module in decoder.named_modules() if isinstance(module, nn.ModuleList)}
    names = [name for name, module in lists.items() if len(module) == facts.n_layers]
    # a model one block deep has many lists of one; its blocks are the outermost
    outermost = [name for name in names if not any(name.startswith(other + ".") for other in names)]
    if len(outermost) != 1:
        sizes = ", ".join(f"{name} ({len(module)})" for name, module in lists.items()) or "none"
        raise ModelError(
            f"cannot tell the {facts.n_layers} blocks of {model.name}; its module lists: {sizes}",
            hint="actlab reads models whose blocks are one list of num_hidden_layers modules",
        )
    return lists[outermost[0]]


def _refuse_unknown_quantisation(model: ModelFolder, config: "PreTrainedConfig") -> None:
    """Refuse weights in a format that transformers would skip with a warning."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    settings = getattr(config, "quantization_config", None) or {}
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    if method is not None and str(getattr(method, "value", method)) not in (
        *AUTO_QUANTIZATION_CONFIG_MAPPING,
        "bitsandbytes",
    ):
        raise ModelError(
            f"the weights of {model.name} are quantised by {method!r}, which transformers does not know",
            hint="upgrade transformers, or use the model's own weights",
        )


def _refuse_incomplete(
    model: ModelFolder, loading: Mapping[str, Iterable[Any]], whole: nn.Module, needed: list[nn.Module]
) -> tuple[tuple[str, nn.Module], ...]:
    """Refuse weights that were drawn at random because the checkpoint lacks them.

    Returns:
        The modules that lack weights and may not be needed, as a final norm, by the weight: they must not run.
    """
    missing = sorted(key for key in loading["missing_keys"] if not _HEADS.search(key))
    wrong = sorted(_mismatch(*one) for one in loading["mismatched_keys"])
    inside = {id(module) for one in needed for module in one.modules()}
    owners = {key: whole.get_submodule(key.rpartition(".")[0]) for key in missing}
    lacking = [key for key in missing if id(owners[key]) in inside] + wrong
    if lacking:
        raise lacks_weights(lacking)
    unknown = sorted(key for key in loading["unexpected_keys"] if not _HEADS.search(key))
    if unknown:
        log.warning("%s holds %d weights that no block uses, as %s", model.name, len(unknown), unknown[0])
    return tuple(owners.items())


def _mismatch(key: str, there: Sequence[int] = (), here: Sequence[int] = ()) -> str:
    return f"{key} ({list(there)} there, {list(here)} by the config)"


def lacks_weights(keys: list[str]) -> ModelError:
    """Return the error for weights that a forward pass needs and the checkpoint lacks."""
    return ModelError(
        f"the checkpoint lacks {len(keys)} weights, {keys[0]} first",
        hint="does config.json belong to these weights? A model with random weights would be worthless",
    )


def _four_bit(device: torch.device, dtype: str) -> "BitsAndBytesConfig":
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None or find_spec("accelerate") is None:
        raise ModelError(
            "--load-in-4bit needs bitsandbytes, which is not installed",
            hint="pip install 'actlab[bnb]', or omit the flag",
        )
    if device.type == "mps":
        raise ModelError("--load-in-4bit does not run on mps", hint="use --device cuda, or omit the flag")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if dtype == "auto" else getattr(torch, dtype),
    )


_KERNELS = ("flash-attn", "flash-linear-attention", "causal-conv1d", "mamba-ssm", "kernels", "xformers", "bitsandbytes")
"""Packages whose kernels transformers takes, where they are installed, in place of its own."""


def environment(device: torch.device, module: nn.Module | None = None) -> dict[str, str]:
    """Return what results may depend on besides the settings: versions, kernels and the kind of machine."""
    import platform

    is_cuda = device.type == "cuda"
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    kernels = [f"{name} {version}" for name in _KERNELS if (version := version_of(name))]
    found = {
        "actlab": version_of("actlab") or "",
        "torch": torch.__version__.split("+")[0],
        **{name: version_of(name) for name in ("transformers", "tokenizers", "numpy")},
        "device": device.type,
        "machine": torch.cuda.get_device_name(device) if is_cuda else cpu,
        "cuda": str(torch.version.cuda) if is_cuda else None,
        "attention": getattr(getattr(module, "config", None), "_attn_implementation", None),
        "kernels": ", ".join(kernels) or None,
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def version_of(package: str) -> str | None:
    """Return an installed package's version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
