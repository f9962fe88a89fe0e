"""Prompts: written out by hand, and read back to the weights that they were made from."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actlab.ground.errors import DataError
from actlab.weights.config.methods import METHODS, check_methods
from actlab.weights.networks import Architecture, Layer, initial_weights
from actlab.weights.number_format import NumberFormat, number_format
from actlab.weights.prompts import (
    PromptStyle,
    Subject,
    classification_task,
    modification_task,
    parse_patterns,
    parse_prompt_weights,
    parse_weights,
    weights_json,
)
from actlab.weights.signatures import Signature, SignatureRows, signature

SMALL = Architecture(vocab_size=3, sequence_length=2, num_layers=1, neurons_per_layer=2, activation_type="relu")
SMALL_WEIGHTS = (
    Layer(np.array([[0.5, -1.0], [0.1234567, 2e-7]], dtype=np.float32), np.array([0.0, -0.0], dtype=np.float32)),
    Layer(np.array([[-1e-9, 12.5]], dtype=np.float32), np.array([0.00001], dtype=np.float32)),
)
SMALL_SIGNATURE = Signature(
    layers=(
        {
            "mean": np.array([[1.5], [-0.25]], dtype=np.float32),
            "clustering": np.array([[0, 1], [2, 3]], dtype=np.float32),
            "pattern_wise": np.array([[4, 5], [6, 7.5]], dtype=np.float32),
        },
        {
            "mean": np.array([[8]], dtype=np.float32),
            "clustering": np.array([[9, 10]], dtype=np.float32),
            "pattern_wise": np.array([[11, 12]], dtype=np.float32),
        },
    ),
    patterns=("palindrome", "none"),
    n_rows=6,
)
SMALL_SUBJECT = Subject(SMALL, SMALL_WEIGHTS, SMALL_SIGNATURE)
SMALL_JSON = (
    '{"network.0.weight":[[0.5,-1],[0.123457,0]],"network.0.bias":[0,0],'
    '"network.2.weight":[[0,12.5]],"network.2.bias":[0.00001]}'
)
ARCHITECTURE_SECTION = """\
## Model Architecture
Input size: 2
Hidden layers: 1
Neurons per layer: 2
Activation: relu
Dropout: 0

"""
STYLES = ["separate", "interwoven"]


def modification(style, digits=None):
    how = PromptStyle(style, digits or NumberFormat())
    return modification_task(
        SMALL_SUBJECT, SMALL_WEIGHTS, target="palindrome", description="Reads the same both ways", style=how
    )


def test_the_separate_style_is_as_written_by_hand():
    expected = (
        ARCHITECTURE_SECTION
        + f"## Model Weights\n{SMALL_JSON}\n\n"
        + """\
## Activation Signature
### 0
mean: [1.5,-0.25]
clustering: [[0,1],[2,3]]
pattern_wise: {"palindrome":[4,6],"none":[5,7.5]}
### 2
mean: [8]
clustering: [[9,10]]
pattern_wise: {"palindrome":[11],"none":[12]}

## Task
"""
    )
    assert modification("separate").prompt.startswith(expected)


def test_the_interwoven_style_is_as_written_by_hand():
    expected = (
        ARCHITECTURE_SECTION
        + """\
## Model Weights and Activation Signatures
### layer_0
weight: [[0.5,-1],[0.123457,0]]
bias: [0,0]
Signature:
mean: [1.5,-0.25]
clustering: [[0,1],[2,3]]
pattern_wise: {"palindrome":[4,6],"none":[5,7.5]}
### layer_2
weight: [[0,12.5]]
bias: [0.00001]
Signature:
mean: [8]
clustering: [[9,10]]
pattern_wise: {"palindrome":[11],"none":[12]}

## Task
"""
    )
    assert modification("interwoven").prompt.startswith(expected)


@pytest.mark.parametrize("style", STYLES)
def test_a_modification_names_the_target_and_is_answered_by_the_improved_weights(style):
    task = modification(style)
    question = task.prompt.split("## Task\n")[1]
    assert "`palindrome` (Reads the same both ways)" in question
    assert task.completion == SMALL_JSON
    assert task.text == task.prompt + "\n\n" + task.completion


@pytest.mark.parametrize("style", STYLES)
def test_a_classification_lists_the_candidates_and_is_answered_in_their_order(style):
    candidates = {"sorted": "In order", "palindrome": "Both ways", "all_same": "Identical"}
    task = classification_task(SMALL_SUBJECT, {"all_same", "sorted"}, candidates=candidates, style=PromptStyle(style))
    assert "\n- sorted: In order\n- palindrome: Both ways\n- all_same: Identical\n" in task.prompt.split("## Task")[1]
    assert task.completion == "sorted, all_same"
    assert parse_patterns(task.completion, candidates) == {"sorted", "all_same"}
    assert task.prompt.split("## Task")[0] == modification(style).prompt.split("## Task")[0]


def test_a_pattern_that_is_no_candidate_cannot_be_an_answer():
    with pytest.raises(ValueError, match="palindrome"):
        classification_task(SMALL_SUBJECT, {"palindrome"}, candidates={"sorted": "In order"}, style=PromptStyle())


@st.composite
def networks(draw, elements):
    architecture = Architecture(5, draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 4)), "relu")
    drawn = draw(hnp.arrays(np.float32, architecture.n_parameters, elements=elements))
    layers, at = [], 0
    for o, i in architecture.sizes:
        weight, bias = drawn[at : at + o * i].reshape(o, i), drawn[at + o * i : at + o * i + o]
        layers.append(Layer(weight, bias))
        at += o * i + o
    return architecture, tuple(layers)


def prompts_of(architecture, weights, digits):
    """The network in both styles."""
    rows = SignatureRows(np.zeros((2, architecture.sequence_length), np.uint8), np.array([True, False]), ("a", "a"))
    still = tuple(Layer(np.zeros_like(layer.weight), np.zeros_like(layer.bias)) for layer in weights)
    subject = Subject(architecture, weights, signature(architecture, still, rows, check_methods(list(METHODS.names))))
    for style in STYLES:
        how = PromptStyle(style, digits)
        yield modification_task(subject, weights, target="a", description="b", style=how).prompt


def assert_reads_back(architecture, weights, digits, same):
    readings = [parse_weights(weights_json(architecture, weights, digits), architecture)]
    readings += [parse_prompt_weights(prompt, architecture) for prompt in prompts_of(architecture, weights, digits)]
    for reading in readings:
        assert len(reading) == len(weights)
        for read, written in zip(reading, weights, strict=True):
            for found, value in zip(read, written, strict=True):
                assert found.dtype == np.float32
                assert found.shape == value.shape
                same(found, value)


@settings(max_examples=50)
@given(networks(st.floats(-1e6, 1e6, width=32) | st.floats(-1, 1, width=32)), st.integers(0, 17))
def test_prompts_of_both_styles_read_back_to_the_rounded_weights(network, decimals):
    def same(found, value):
        np.testing.assert_array_equal(found, np.round(value.astype(np.float64), decimals).astype(np.float32))

    assert_reads_back(*network, NumberFormat(decimals), same)


TORCH_PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize("precision", list(TORCH_PRECISIONS))
@settings(max_examples=50)
@given(data=st.data())
def test_round_trip_prompts_read_back_bit_by_bit_in_each_precision(precision, data):
    stored = TORCH_PRECISIONS[precision]

    def as_stored(value):
        return torch.from_numpy(np.ascontiguousarray(value)).to(stored)

    def same(found, value):
        assert torch.equal(as_stored(found), as_stored(value))

    width = 16 if precision == "float16" else 32
    elements = st.floats(width=width, allow_nan=False, allow_infinity=False, min_value=-60000, max_value=60000)
    architecture, drawn = data.draw(networks(elements))
    weights = tuple(Layer(*(as_stored(value).float().numpy() for value in layer)) for layer in drawn)
    assert_reads_back(architecture, weights, number_format("round-trip", precision), same)


@given(hnp.arrays(np.float32, st.integers(0, 20), elements=st.floats(-1e9, 1e9, width=32)), st.integers(0, 9))
def test_numbers_are_written_plainly_and_shortly(numbers, decimals):
    for text, number in zip(NumberFormat(decimals).texts(numbers), numbers.tolist(), strict=True):
        assert float(text) == float(f"{number:.{decimals}f}")
        assert text != "-0"
        assert "e" not in text
        assert "." not in text or text[-1] not in "0."


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_never_written(bad):
    weights = (SMALL_WEIGHTS[0], Layer(SMALL_WEIGHTS[1].weight, np.array([bad], dtype=np.float32)))
    with pytest.raises(DataError, match="not finite"):
        weights_json(SMALL, weights, NumberFormat())


def test_layers_are_in_numeric_order_and_the_json_has_no_spaces():
    architecture = Architecture(5, 4, 11, 2, "relu", dropout_rate=0.1)
    weights = initial_weights(architecture, np.random.default_rng(0))
    written = weights_json(architecture, weights, NumberFormat())
    assert not set(written) & set(" \n\t")
    indices = range(0, 36, 3)
    assert list(json.loads(written)) == [f"network.{k}.{part}" for k in indices for part in ("weight", "bias")]
    separate, interwoven = prompts_of(architecture, weights, NumberFormat())
    assert [line for line in separate.splitlines() if line.startswith("### ")] == [f"### {k}" for k in indices]
    assert [line for line in interwoven.splitlines() if line.startswith("### ")] == [f"### layer_{k}" for k in indices]
    assert "\nDropout: 0.1\n" in separate


@pytest.mark.parametrize("around", ["{}", " \n{}\n ", "```json\n{}\n```", "```\n{}```", "\n```json {} ```\n"])
def test_white_space_and_a_fence_around_the_weights_are_forgiven(around):
    read = parse_weights(around.replace("{}", SMALL_JSON), SMALL)
    np.testing.assert_array_equal(read[0].weight, np.float32([[0.5, -1], [0.123457, 0]]))


GOOD = json.loads(SMALL_JSON)


def changed(**tensors):
    renamed = {name.replace("_", "."): value for name, value in tensors.items()}
    return json.dumps({name: value for name, value in {**GOOD, **renamed}.items() if value != "absent"})


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("", "not JSON"),
        ("The weights are unchanged.", "not JSON"),
        (SMALL_JSON[:-1], "not JSON"),
        (SMALL_JSON + " Done.", "not JSON"),
        ("Here: " + SMALL_JSON, "not JSON"),
        ("[1, 2]", "not JSON"),
        ("null", "not JSON"),
        ("```", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "missing tensor"),
        (changed(network_2_bias="absent"), "missing tensor"),
        (changed(network_4_bias=[0.0]), "unknown tensor"),
        (changed(note="hello"), "unknown tensor"),
        (SMALL_JSON[:-1] + ',"network.2.bias":[0]}', "repeated tensor"),
        (changed(network_0_bias=[0.0]), "wrong shape"),
        (changed(network_0_bias=[0.0, 1.0, 2.0]), "wrong shape"),
        (changed(network_0_bias=0.0), "wrong shape"),
        (changed(network_0_bias=None), "wrong shape"),
        (changed(network_0_bias=[[0.0, 1.0]]), "wrong shape"),
        (changed(network_0_bias=[[0.0], [1.0]]), "wrong shape"),
        (changed(network_0_weight=[[1.0, 2.0], [3.0]]), "wrong shape"),
        (changed(network_0_weight=[1.0, 2.0]), "wrong shape"),
        (changed(network_0_weight=[[1.0, 2.0], 3.0]), "wrong shape"),
        (changed(network_0_weight={"0": [1.0, 2.0]}), "wrong shape"),
        (changed(network_0_bias=[0.0, math.nan]), "not a finite number"),
        (changed(network_0_bias=[0.0, -math.inf]), "not a finite number"),
        (changed(network_0_bias=[0.0, 1e39]), "not a finite number"),
        (changed(network_0_bias=[0.0, 1.0]).replace("1.0", "1" * 5000), "not a finite number"),
        (changed(network_0_bias=[0.0, "1"]), "not a finite number"),
        (changed(network_0_bias=[0.0, None]), "not a finite number"),
        (changed(network_0_bias=[0.0, True]), "not a finite number"),
        (changed(network_0_bias=[0.0, {}]), "not a finite number"),
    ],
)
def test_weights_that_cannot_be_read_have_their_reason(completion, reason):
    with pytest.raises(DataError) as refused:
        parse_weights(completion, SMALL)
    assert str(refused.value) == reason
    assert refused.value.hint


@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_whatever_a_model_says_is_read_or_refused(completion):
    with pytest.raises(DataError):
        parse_weights(completion, SMALL)
    with pytest.raises(DataError):
        parse_prompt_weights(completion, SMALL)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("a, b", {"a", "b"}),
        (" b,a\n", {"a", "b"}),
        ("a", {"a"}),
        ("a, a", {"a"}),
        ("", "no known pattern"),
        ("c", "no known pattern"),
        ("a and b", "no known pattern"),
        ("a, c", "unknown pattern"),
        ("a,", "unknown pattern"),
        ("A, b", "unknown pattern"),
    ],
)
def test_named_patterns_are_read_or_refused_with_their_reason(completion, expected):
    if isinstance(expected, set):
        assert parse_patterns(completion, ["a", "b", "d"]) == expected
    else:
        with pytest.raises(DataError, match=f"^{expected}$"):
            parse_patterns(completion, ["a", "b", "d"])
