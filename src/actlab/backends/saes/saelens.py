"""SAELens folders, of version 6 and before: `cfg.json` and `sae_weights.safetensors`. actlab's own SAEs too."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from actlab.backends.saes.places import HINT as PLACES
from actlab.backends.saes.places import block_named, layer_of, other_place
from actlab.backends.saes.sae import ARCHITECTURES, NORMS, NOT_KNOWN, Architecture, SaeFacts
from actlab.ground.errors import ModelError, StorageError, foreign_errors
from actlab.ground.integrity import check_sealed, read_sealed_json
from actlab.ground.limits import read_at_most

Known = TypeVar("Known", bound=str)

FILE = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
VERSION = "6.0.0"
"""The first release with the `cfg.json` that `train-sae` writes; SAELens takes a config that names none for an older
one, and drops its metadata."""
HINT = "an SAELens folder is cfg.json and sae_weights.safetensors"


def recognises(folder: Path) -> bool:
    """Whether a folder is SAELens': a `cfg.json` beside weights of its name, or one that has its `d_sae`."""
    config = folder / FILE
    with foreign_errors(f"cannot read {config}", hint=HINT):
        return config.is_file() and ((folder / WEIGHTS).is_file() or b'"d_sae"' in read_at_most(config))


def read(path: Path) -> SaeFacts:
    """Return what a `cfg.json` says.

    Raises:
        ModelError: It is damaged, or of an architecture or a hook that actlab does not read.
        StorageError: It or its weights are not as they were sealed.
    """
    weights = path.with_name(WEIGHTS)
    for file in (path, weights):
        check_sealed(file)
    try:
        config = read_sealed_json(path)
    except StorageError as error:
        raise ModelError(str(error), hint=HINT) from error
    if not isinstance(config, dict) or not isinstance(config.get("metadata", {}), dict):
        raise ModelError(f"{path} is no SAELens config", hint=HINT)
    if not weights.is_file():
        raise ModelError(f"{path.parent} has no {WEIGHTS}", hint=HINT)
    of_model: dict[str, object] = config | config.get("metadata", {})
    hooks = (_first(of_model, "hook_name", "hook_point"), of_model.get("hf_hook_name"), config.get("hook_name"))
    named = [hook for hook in hooks if isinstance(hook, str)]
    _refuse_transcoder(path, of_model, named)
    architecture = _architecture(path, config)
    k = _k(path, config) if architecture in ("topk", "batchtopk") else None
    l0, neuronpedia_id = of_model.get("average_l0", k), of_model.get("neuronpedia_id")
    options = of_model.get("model_from_pretrained_kwargs")
    norm = config.get("normalize_activations")
    norm = {None: "none", False: "none", True: "expected_average_only_in"}.get(norm, norm)
    return SaeFacts(
        path=weights,
        others=(path,),
        family="saelens",
        architecture=architecture,
        layer=_layer(path, of_model, named),
        d_in=_whole(path, config, "d_in"),
        n_features=_whole(path, config, "d_sae"),
        average_l0=NOT_KNOWN if not isinstance(l0, int | float) or l0 <= 0 else round(l0),
        k=k,
        apply_b_dec_to_input=_flag(path, config, "apply_b_dec_to_input", otherwise=True),
        input_norm=_known(path, "normalize_activations", norm, NORMS),
        rescale_by_decoder_norm=_flag(path, config, "rescale_acts_by_decoder_norm", otherwise=False),
        neuronpedia_id=neuronpedia_id if isinstance(neuronpedia_id, str) and neuronpedia_id else None,
        declared={
            "model_name": of_model.get("model_name"),
            "prepend_bos": of_model.get("prepend_bos"),
            "is_centred": isinstance(options, dict) and options.get("center_writing_weights") is True,
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
        with foreign_errors(f"cannot read {facts.path}", hint=HINT), safe_open(facts.path, framework="pt") as file:
            there = set(file.keys())
            if name == "threshold" and name not in there:
                raise ModelError(f"{facts.path} has no threshold", hint="it was never calibrated, or is not whole")
            weight: Tensor = file.get_tensor(name)
            # the old tensor that its activations would be off by
            if "scaling_factor" in there and not bool((file.get_tensor("scaling_factor") == 1.0).all()):
                raise ModelError(
                    f"{facts.path} has a scaling_factor that is not 1", hint="load and save it once with SAELens 6"
                )
            return weight

    return read_one


def _architecture(path: Path, config: Mapping[str, object]) -> Architecture:
    name = config.get("architecture", "standard")
    function = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    if name == "standard" and function not in ("relu", None):
        name = function if function in ("topk", "topk-absolute-value") else f"standard with {function}"
    return _known(path, "the architecture", name, ARCHITECTURES)


def _known(path: Path, what: str, name: object, known: Iterable[Known]) -> Known:
    found = next((one for one in known if one == name), None)
    if found is None:
        raise ModelError(f"{path}: actlab does not read {what} {name!r}", hint=", ".join(known))
    return found


def _k(path: Path, config: Mapping[str, object]) -> int:
    kwargs = config.get("activation_fn_kwargs")
    k = config.get("k", kwargs.get("k") if isinstance(kwargs, dict) else None)
    n_features = _whole(path, config, "d_sae")
    is_average = config.get("architecture") == "batchtopk"  # over a batch, and may be a fraction
    if (
        not isinstance(k, int | float)
        or isinstance(k, bool)
        or not 1 <= k <= n_features
        or not (is_average or k == round(k))
    ):
        kind = "number" if is_average else "whole number"
        raise ModelError(f"{path}: k is {k!r}, no {kind} from 1 to {n_features}", hint=HINT)
    return round(k)


def _layer(path: Path, of_model: Mapping[str, object], named: list[str]) -> int:
    """Return the block whose output is read, where all that the config says of its place agrees.

    Raises:
        ModelError: It reads another place, or does not agree with itself.
    """
    if not named:
        raise ModelError(f"{path} names no hook_name", hint="actlab has to know which block's output the SAE reads")
    layers = [layer_of(hook) for hook in named]
    layer = layers[0]
    if layer is None or None in layers:
        raise other_place(path, named[layers.index(None)])
    head = _first(of_model, "hook_head_index", "hook_point_head_index")
    if head is not None or of_model.get("reshape_activations", "none") not in ("none", None):
        raise other_place(path, f"attention heads at {named[0]}")
    number = _first(of_model, "hook_layer", "hook_point_layer")
    if len(set(layers)) > 1 or number not in (None, block_named(named[0])):
        told = " and ".join([*named, *([f"layer {number}"] if number is not None else [])])
        raise ModelError(f"{path} names two places: {told}", hint="write into it where the SAE was trained")
    return layer


def _first(content: Mapping[str, object], *keys: str) -> object:
    """Return the first value that is not null."""
    return next((content[key] for key in keys if content.get(key) is not None), None)


def _refuse_transcoder(path: Path, config: Mapping[str, object], hooks: list[str]) -> None:
    """Refuse a transcoder by its architecture, its decoder or the place that it writes, whatever it reads.

    Raises:
        ModelError: It writes another place than it reads, or the weights are damaged.
    """
    from safetensors import safe_open

    file_path = path.with_name(WEIGHTS)
    with foreign_errors(f"cannot read {file_path}", hint=HINT), safe_open(file_path, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    reads = hooks[0] if hooks else "one place"
    written = [out for key in ("hook_name_out", "hf_hook_name_out") if isinstance(out := config.get(key), str)]
    if (
        "transcoder" in str(config.get("architecture"))
        or _first(config, "d_out") not in (None, config.get("d_in"))
        or "W_skip" in shapes
        or ({"W_enc", "W_dec"} <= shapes.keys() and shapes["W_enc"][0] != shapes["W_dec"][-1])
        or any(layer_of(out) != layer_of(reads) for out in written)
    ):
        writes = next(iter(written), "another")
        raise ModelError(f"{path} reads {reads} and writes {writes}: it is a transcoder, no SAE", hint=PLACES)


def _whole(path: Path, config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{path} has no number for {key}", hint=HINT)
    return value


def _flag(path: Path, config: Mapping[str, object], key: str, *, otherwise: bool) -> bool:
    value = config.get(key, otherwise)
    if not isinstance(value, bool):
        raise ModelError(f"{path}: {key} is {value!r}, neither true nor false", hint=HINT)
    return value
