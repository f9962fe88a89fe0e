"""SAELens folders, of version 6 and before: `cfg.json` and `sae_weights.safetensors`. actlab's own SAEs too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actlab.backends.saes.places import HINT as PLACES
from actlab.backends.saes.places import block_named, layer_of, other_place
from actlab.backends.saes.sae import NOT_KNOWN, SaeFacts
from actlab.ground.errors import ModelError, StorageError, foreign_errors
from actlab.ground.integrity import check_sealed, read_sealed_json

FILE = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
VERSION = "6.0.0"
"""The first release with the `cfg.json` that `train-sae` writes; SAELens takes a config that names none for an older
one, and drops its metadata."""
_HINT = "an SAELens folder is cfg.json and sae_weights.safetensors"
_ARCHITECTURES = ("standard", "jumprelu", "topk", "batchtopk", "gated")
_NORMS = ("none", "constant_norm_rescale", "layer_norm", "expected_average_only_in")


def read(path: Path) -> SaeFacts:
    """Return what a `cfg.json` says.

    Raises:
        ModelError: It is damaged, or of an architecture or a hook that actlab does not read.
        StorageError: It or its weights are not as they were sealed.
    """
    for file in (path, path.with_name(WEIGHTS)):
        check_sealed(file)
    try:
        config = read_sealed_json(path)
    except StorageError as error:
        raise ModelError(str(error), hint=_HINT) from error
    if not isinstance(config, dict) or not isinstance(config.get("metadata", {}), dict):
        raise ModelError(f"{path} is no SAELens config", hint=_HINT)
    if not path.with_name(WEIGHTS).is_file():
        raise ModelError(f"{path.parent} has no {WEIGHTS}", hint=_HINT)
    of_model = config | config.get("metadata", {})
    _refuse_other_output(path, of_model)
    layer = _layer(path, of_model, config.get("hook_name"))
    architecture = _architecture(path, config)
    k = _k(path, config) if architecture in ("topk", "batchtopk") else None
    l0 = of_model.get("average_l0", k)
    return SaeFacts(
        path=path.with_name(WEIGHTS),
        family="saelens",
        architecture=architecture,
        layer=layer,
        d_in=_whole(path, config, "d_in"),
        n_features=_whole(path, config, "d_sae"),
        average_l0=NOT_KNOWN if not isinstance(l0, int | float) or l0 <= 0 else round(l0),
        k=k,
        apply_b_dec_to_input=_flag(path, config, "apply_b_dec_to_input", otherwise=True),
        input_norm=_norm(path, config),
        rescale_by_decoder_norm=_flag(path, config, "rescale_acts_by_decoder_norm", otherwise=False),
        neuronpedia_id=_text(of_model.get("neuronpedia_id")),
        declared={
            "model_name": _text(of_model.get("model_name")),
            "prepend_bos": of_model.get("prepend_bos"),
            "is_centred": _is_centred(of_model),
            "explained_variance": of_model.get("explained_variance"),
        },
    )


def weights(facts: SaeFacts) -> Callable[[str], Tensor]:
    """Return what reads one weight.

    Raises:
        StorageError: The file is not as it was sealed.
    """
    from safetensors import safe_open

    check_sealed(facts.path)

    def read_one(name: str) -> Tensor:
        with foreign_errors(f"cannot read {facts.path}", hint=_HINT), safe_open(facts.path, framework="pt") as file:
            if name == "threshold" and name not in file.keys():  # noqa: SIM118 - safe_open is no mapping
                raise ModelError(f"{facts.path} has no threshold", hint="it was never calibrated, or is not whole")
            weight: Tensor = file.get_tensor(name)
            _refuse_scaling(facts, file)
            return weight

    return read_one


def _refuse_scaling(facts: SaeFacts, file: Any) -> None:
    """Refuse the old scaling_factor tensor that is not all ones: its activations would be off by it."""
    if "scaling_factor" in file.keys():  # noqa: SIM118
        factor = file.get_tensor("scaling_factor")
        if not bool(torch.all(factor == 1.0)):
            raise ModelError(
                f"{facts.path} has a scaling_factor that is not 1", hint="load and save it once with SAELens 6"
            )


def _architecture(path: Path, config: dict[str, Any]) -> Any:
    name = config.get("architecture", "standard")
    function = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    if name == "standard" and function in ("topk", "topk-absolute-value"):
        name = "topk" if function == "topk" else function
    elif name == "standard" and function not in ("relu", None):
        name = f"standard with {function}"
    if name not in _ARCHITECTURES:
        raise ModelError(f"{path}: actlab does not read the architecture {name!r}", hint=", ".join(_ARCHITECTURES))
    return name


def _k(path: Path, config: dict[str, Any]) -> int:
    kwargs = config.get("activation_fn_kwargs") or {}
    k = config.get("k", kwargs.get("k") if isinstance(kwargs, dict) else None)
    n_features = _whole(path, config, "d_sae")
    if not isinstance(k, int | float) or isinstance(k, bool) or not 1 <= k <= n_features:
        raise ModelError(f"{path}: k is {k!r}, no number from 1 to {n_features}", hint=_HINT)
    if config.get("architecture") != "batchtopk" and k != round(k):  # a batch's average may be a fraction
        raise ModelError(f"{path}: k is {k}, no whole number", hint=_HINT)
    return round(k)


def _norm(path: Path, config: dict[str, Any]) -> Any:
    norm = config.get("normalize_activations", "none")
    norm = {False: "none", None: "none", True: "expected_average_only_in"}.get(norm, norm)
    if norm not in _NORMS:
        raise ModelError(f"{path}: actlab does not know normalize_activations {norm!r}", hint=", ".join(_NORMS))
    return norm


def _is_centred(of_model: dict[str, Any]) -> bool:
    """Whether TransformerLens took each state's mean out of the stream that the SAE was trained on."""
    options = of_model.get("model_from_pretrained_kwargs")
    return isinstance(options, dict) and options.get("center_writing_weights") is True


def _layer(path: Path, of_model: dict[str, Any], top_hook: Any) -> int:
    """Return the block whose output is read, where all that the config says of its place agrees.

    Raises:
        ModelError: It reads another place, or writes another than it reads, or does not agree with itself.
    """
    hooks = [_first(of_model, "hook_name", "hook_point"), of_model.get("hf_hook_name"), top_hook]
    named = [hook for hook in hooks if isinstance(hook, str)]
    if not named:
        raise ModelError(f"{path} names no hook_name", hint="actlab has to know which block's output the SAE reads")
    layers = [layer_of(hook) for hook in named]
    for hook, layer in zip(named, layers, strict=True):
        if layer is None:
            raise other_place(path, hook)
    written = [of_model.get(key) for key in ("hook_name_out", "hf_hook_name_out")]
    for out in written:
        if isinstance(out, str) and layer_of(out) != layers[0]:
            raise ModelError(f"{path} reads {named[0]} and writes {out}: it is a transcoder, no SAE", hint=PLACES)
    head = _first(of_model, "hook_head_index", "hook_point_head_index")
    if head is not None or of_model.get("reshape_activations", "none") not in ("none", None):
        raise other_place(path, f"attention heads at {named[0]}")
    number = _first(of_model, "hook_layer", "hook_point_layer")
    if len(set(layers)) > 1 or number not in (None, block_named(named[0])):
        told = " and ".join([*named, *([f"layer {number}"] if number is not None else [])])
        raise ModelError(f"{path} names two places: {told}", hint="write into it where the SAE was trained")
    assert layers[0] is not None
    return layers[0]


def _first(content: dict[str, Any], *keys: str) -> Any:
    """Return the first value that is not null."""
    return next((content[key] for key in keys if content.get(key) is not None), None)


def _refuse_other_output(path: Path, config: dict[str, Any]) -> None:
    """Refuse a transcoder by its architecture or its decoder, whatever hook its config names.

    Raises:
        ModelError: It writes another place than it reads, or the weights are damaged.
    """
    from safetensors import safe_open

    architecture = config.get("architecture")
    is_other = isinstance(architecture, str) and "transcoder" in architecture
    d_in, file_path = config.get("d_in"), path.with_name(WEIGHTS)
    is_other = is_other or _first(config, "d_out") not in (None, d_in)
    with foreign_errors(f"cannot read {file_path}", hint=_HINT), safe_open(file_path, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        if {"W_enc", "W_dec"} <= shapes.keys():
            is_other = is_other or shapes["W_enc"][0] != shapes["W_dec"][-1]
    if is_other or "W_skip" in shapes:
        reads = _first(config, "hook_name", "hook_point") or "one place"
        writes = config.get("hook_name_out") or "another"
        raise ModelError(f"{path} reads {reads} and writes {writes}: it is a transcoder, no SAE", hint=PLACES)


def _whole(path: Path, config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{path} has no number for {key}", hint=_HINT)
    return value


def _flag(path: Path, config: dict[str, Any], key: str, *, otherwise: bool) -> bool:
    value = config.get(key, otherwise)
    if not isinstance(value, bool):
        raise ModelError(f"{path}: {key} is {value!r}, neither true nor false", hint=_HINT)
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
