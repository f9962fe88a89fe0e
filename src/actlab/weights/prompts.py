"""The texts an interpreter learns from: a network's weights and signature, a question, an answer."""

# o outputs of a layer, i its inputs, k numbers of a method

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from actlab.ground.errors import DataError
from actlab.weights.config.methods import METHODS
from actlab.weights.config.output import Style
from actlab.weights.networks import Architecture, Layer, Weights, state_dict
from actlab.weights.number_format import NumberFormat
from actlab.weights.signatures import Profile, Signature

_ARCHITECTURE = "## Model Architecture"
_WEIGHTS = "## Model Weights"
_SIGNATURE = "## Activation Signature"
_INTERWOVEN = "## Model Weights and Activation Signatures"
_TASK = "## Task"


@dataclass(frozen=True)
class PromptStyle:
    """How a prompt lays out a network."""

    style: Style = "separate"
    """All weights and then the whole signature, or layer by layer both."""
    digits: NumberFormat = field(default_factory=NumberFormat)
    """Of weights and signatures, in prompts and completions."""


class Task(NamedTuple):
    """A question and its answer."""

    prompt: str
    completion: str

    @property
    def text(self) -> str:
        """Both, with a blank line between them."""
        return f"{self.prompt}\n\n{self.completion}"


class Subject(NamedTuple):
    """A network as a prompt shows it."""

    architecture: Architecture
    weights: Weights
    signature: Signature


def modification_task(
    degraded: Subject, improved: Weights, *, target: str, description: str, style: PromptStyle
) -> Task:
    """Ask for the weights that restore the target pattern; answer with the improved ones."""
    question = (
        f"This network no longer recognises the pattern `{target}` ({description}). Give the modified weights that "
        "restore it and keep what the network does otherwise: one JSON object that maps every tensor's name "
        "(network.<layer>.weight, network.<layer>.bias) to its values, in the same shapes and order, and nothing else."
    )
    prompt = _prompt(degraded, question, style)
    return Task(prompt, weights_json(degraded.architecture, improved, style.digits))


def classification_task(
    subject: Subject, patterns: Collection[str], *, candidates: Mapping[str, str], style: PromptStyle
) -> Task:
    """Ask which of the candidates (descriptions by name) the network knows; answer in the candidates' order."""
    listed = "\n".join(f"- {name}: {description}" for name, description in candidates.items())
    question = (
        f"Which of these patterns does this network recognise?\n{listed}\n"
        "Give their names in the order of this list, separated by commas, and nothing else."
    )
    return Task(_prompt(subject, question, style), pattern_names(patterns, candidates))


def pattern_names(patterns: Collection[str], candidates: Iterable[str]) -> str:
    """Write patterns in the candidates' order.

    >>> pattern_names({"all_same", "palindrome"}, ["palindrome", "no_repeats", "all_same"])
    'palindrome, all_same'
    """
    return ", ".join(sorted(patterns, key=list(candidates).index))


def weights_json(architecture: Architecture, weights: Weights, digits: NumberFormat) -> str:
    """Write the weights as one JSON object without spaces, in the order of the layers.

    Raises:
        DataError: A weight is not finite.
    """
    tensors = state_dict(architecture, weights)
    return _object_json((name, digits.array_json(values)) for name, values in tensors.items())


def _object_json(items: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in items) + "}"


def _prompt(subject: Subject, question: str, style: PromptStyle) -> str:
    model = _separate(subject, style.digits) if style.style == "separate" else _interwoven(subject, style.digits)
    return "\n\n".join([_architecture(subject.architecture), *model, f"{_TASK}\n{question}"])


def _architecture(architecture: Architecture) -> str:
    return (
        f"{_ARCHITECTURE}\n"
        f"Input size: {architecture.sequence_length}\n"
        f"Hidden layers: {architecture.num_layers}\n"
        f"Neurons per layer: {architecture.neurons_per_layer}\n"
        f"Activation: {architecture.activation_type}\n"
        f"Dropout: {architecture.dropout_rate:g}"
    )


def _separate(subject: Subject, digits: NumberFormat) -> list[str]:
    architecture, weights, signature = subject
    layers = zip(architecture.module_indices, signature.layers, strict=True)
    profiles = [f"### {index}\n{_profile(profile, signature.patterns, digits)}" for index, profile in layers]
    return [f"{_WEIGHTS}\n{weights_json(architecture, weights, digits)}", "\n".join([_SIGNATURE, *profiles])]


def _interwoven(subject: Subject, digits: NumberFormat) -> list[str]:
    architecture, weights, signature = subject
    layers = zip(architecture.module_indices, weights, signature.layers, strict=True)
    sections = [
        f"### layer_{index}\n"
        f"weight: {digits.array_json(layer.weight)}\n"
        f"bias: {digits.array_json(layer.bias)}\n"
        f"Signature:\n{_profile(profile, signature.patterns, digits)}"
        for index, layer, profile in layers
    ]
    return ["\n".join([_INTERWOVEN, *sections])]


def _profile(profile: Profile, patterns: tuple[str, ...], digits: NumberFormat) -> str:
    """Write a line a method: for each neuron a number, or a list of several; for `pattern_wise` a list a pattern."""
    lines = []
    for name, values_ok in profile.items():
        if METHODS[name].by_pattern:
            lists = zip(patterns, values_ok.T, strict=True)
            values = _object_json((pattern, digits.array_json(values_o)) for pattern, values_o in lists)
        else:
            values = digits.array_json(values_ok[:, 0] if values_ok.shape[1] == 1 else values_ok)
        lines.append(f"{name}: {values}")
    return "\n".join(lines)


def parse_weights(completion: str, architecture: Architecture) -> Weights:
    """Read weights as `weights_json` writes them; white space and a ```json fence around them are forgiven.

    Raises:
        DataError: With one of these messages: "not JSON" (or anything but one object), "repeated tensor",
            "unknown tensor", "missing tensor", "wrong shape", "not a finite number". The hint names the tensor.
    """
    text = completion.strip()
    if text.startswith("```") and text.endswith("```") and len(text) >= 6:
        text = text[3:-3].removeprefix("json")
    tensors = _json_object(text)
    names = [f"network.{index}.{part}" for index in architecture.module_indices for part in ("weight", "bias")]
    if unknown := [name for name in tensors if name not in names]:
        raise DataError("unknown tensor", hint=f"leave out {unknown[0][:100]!r}")
    if missing := [name for name in names if name not in tensors]:
        raise DataError("missing tensor", hint=f"give {missing[0]!r}")
    shapes = [shape for o, i in architecture.sizes for shape in ((o, i), (o,))]
    arrays = [_tensor(name, tensors[name], shape) for name, shape in zip(names, shapes, strict=True)]
    return tuple(Layer(weight, bias) for weight, bias in zip(arrays[::2], arrays[1::2], strict=True))


def _json_object(text: str) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(found := dict(pairs)) < len(pairs):
            raise DataError("repeated tensor", hint="give each tensor once")
        return found

    try:
        # float for whole numbers too: some have too many digits for Python's int
        parsed = json.loads(text, object_pairs_hook=unique, parse_int=float)
    except (ValueError, RecursionError) as error:
        raise DataError("not JSON", hint="give one JSON object and nothing else") from error
    if not isinstance(parsed, dict):
        raise DataError("not JSON", hint="give a JSON object with the tensors' names as keys")
    return parsed


def _tensor(name: str, values: object, shape: tuple[int, ...]) -> np.ndarray:
    rows = values if len(shape) == 2 else [values]
    n_rows = shape[0] if len(shape) == 2 else 1
    if not (
        isinstance(rows, list)
        and len(rows) == n_rows
        and all(isinstance(row, list) and len(row) == shape[-1] for row in rows)
        and not any(isinstance(value, list) for row in rows for value in row)
    ):
        raise DataError("wrong shape", hint=f"give {name!r} the shape {list(shape)}")
    # An exact type: NaN and Infinity are floats to json and caught below, true and null are not.
    if all(type(value) is float for row in rows for value in row):
        with np.errstate(over="ignore"):
            array = np.array(rows).astype(np.float32).reshape(shape)
        if np.isfinite(array).all():
            return array
    raise DataError("not a finite number", hint=f"give {name!r} finite numbers only, within float32")


def parse_prompt_weights(prompt: str, architecture: Architecture) -> Weights:
    """Read the weights that a prompt of either style shows.

    Raises:
        DataError: As `parse_weights` does.
    """
    if separate := re.search(rf"^{_WEIGHTS}\n(.*)$", prompt, flags=re.MULTILINE):
        return parse_weights(separate[1], architecture)
    layers = re.findall(r"^### layer_(\d+)\nweight: (.*)\nbias: (.*)$", prompt, flags=re.MULTILINE)
    tensors = [item for k, w, b in layers for item in ((f"network.{k}.weight", w), (f"network.{k}.bias", b))]
    return parse_weights(_object_json(tensors), architecture)


def parse_patterns(completion: str, candidates: Collection[str]) -> frozenset[str]:
    """Read a list of names, separated by commas; white space around a name is forgiven.

    Raises:
        DataError: With one of these messages: "no known pattern", "unknown pattern" (beside known ones).
    """
    named = frozenset(name.strip() for name in completion.split(","))
    unknown = named - frozenset(candidates)
    if unknown == named:
        raise DataError("no known pattern", hint=f"choose from {', '.join(candidates)}")
    if unknown:
        raise DataError("unknown pattern", hint=f"leave out {min(unknown)[:100]!r}")
    return named
