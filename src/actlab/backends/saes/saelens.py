"""SAELens folders, of version 6 and before: `cfg.json` and `sae_weights.safetensors`. actlab's own SAEs too."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actlab.backends.saes.sae import NOT_KNOWN, SaeFacts
from actlab.ground.errors import ModelError, StorageError, foreign_errors
from actlab.ground.manifest import read_json

FILE = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
_HINT = "an SAELens folder is cfg.json and sae_weights.safetensors"
_HOOK = re.compile(r"blocks\.(\d{1,4})\.hook_resid_post")
_ARCHITECTURES = ("standard", "jumprelu", "topk", "batchtopk", "gated")
_NORMS = ("none", "constant_norm_rescale", "layer_norm", "expected_average_only_in")


def read(path: Path) -> SaeFacts:
    """Return what a `cfg.json` says.

    Raises:
        ModelError: It is damaged, or of an architecture or a hook that actlab does not read.
    """
    try:
        config = read_json(path)
    except StorageError as error:
        raise ModelError(str(error), hint=_HINT) from error
    if not isinstance(config, dict) or not isinstance(config.get("metadata", {}), dict):
        raise ModelError(f"{path} is no SAELens config", hint=_HINT)
    if not path.with_name(WEIGHTS).is_file():
        raise ModelError(f"{path.parent} has no {WEIGHTS}", hint=_HINT)
    of_model = config | config.get("metadata", {})
    architecture = _architecture(path, config)
    k = _k(path, config) if architecture in ("topk", "batchtopk") else None
    l0 = of_model.get("average_l0", k)
    return SaeFacts(
        path=path.with_name(WEIGHTS),
        family="saelens",
        architecture=architecture,
        layer=_layer(path, of_model),
        d_in=_whole(path, config, "d_in"),
        n_features=_whole(path, config, "d_sae"),
        average_l0=NOT_KNOWN if not isinstance(l0, int | float) or l0 <= 0 else round(l0),
        k=k,
        apply_b_dec_to_input=_flag(path, config, "apply_b_dec_to_input", otherwise=True),
        input_norm=_norm(path, config),
        rescale_by_decoder_norm=_flag(path, config, "rescale_acts_by_decoder_norm", otherwise=False),
        neuronpedia_id=_text(of_model.get("neuronpedia_id")),
        declared={"model_name": _text(of_model.get("model_name")), "prepend_bos": of_model.get("prepend_bos")},
    )


def weights(facts: SaeFacts) -> Callable[[str], Tensor]:
    """Return what reads one weight."""
    from safetensors import safe_open

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


def _layer(path: Path, of_model: dict[str, Any]) -> int:
    hook = of_model.get("hook_name", of_model.get("hook_point"))
    if not isinstance(hook, str):
        raise ModelError(f"{path} names no hook_name", hint="actlab has to know which block's output the SAE reads")
    match = _HOOK.fullmatch(hook)
    if match is None:
        raise ModelError(
            f"{path} reads {hook}, which is not the output of a block",
            hint="actlab encodes the residual stream after a block: blocks.L.hook_resid_post",
        )
    return int(match[1])


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
