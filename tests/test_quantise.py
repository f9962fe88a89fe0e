"""Quantisers: integer codes and the floats that they stand for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from actlab.ground.later import Later
from actlab.weights.compute.stored import as_stored
from actlab.weights.config.quantisations import QUANTISATIONS
from actlab.weights.networks import Architecture, initial_weights
from actlab.weights.quantise import dims_of, quantise, straight_through

WEIGHTS = arrays.arrays(np.float32, (5, 3), elements=st.floats(-4, 4, width=32))


@pytest.mark.parametrize(("method", "levels"), [("int8", 127), ("int4", 7)])
@given(weights=WEIGHTS)
def test_integers_per_tensor_are_what_torch_makes_of_them(method, levels, weights):
    weights = torch.from_numpy(weights)
    scale = float(weights.abs().max()) / levels
    ours = quantise(weights, method, dims=dims_of("per-tensor", is_bias=False)).values
    if scale < 1e-30:
        assert torch.allclose(ours, weights, atol=1e-30)
        return
    torchs = torch.fake_quantize_per_tensor_affine(weights, scale, 0, -levels, levels)
    near_tie = ((weights / scale).abs() % 1 - 0.5).abs() < 1e-4  # both may round such a one up or down
    assert torch.allclose(ours[~near_tie], torchs[~near_tie], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("method", "levels"), [("int8", 127), ("int4", 7)])
def test_integers_per_channel_are_what_torch_makes_of_them(method, levels):
    weights = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    scales = weights.abs().amax(dim=1) / levels
    zeros = torch.zeros(6, dtype=torch.int32)
    torchs = torch.fake_quantize_per_channel_affine(weights, scales, zeros, 0, -levels, levels)
    ours = quantise(weights, method, dims=dims_of("per-channel", is_bias=False))
    assert torch.allclose(ours.values, torchs, rtol=1e-5)
    assert ours.scales.shape == (6, 1)


def test_every_method_gives_what_a_hand_calculation_gives():
    weights = torch.tensor([[0.5, -1.0, 0.0], [0.19, -0.2, 0.3]])
    expected = {
        # 0.5 * 127 = 63.5 goes to the even 64; 0.19 * 127 = 24.13; 0.2 * 127 = 25.4; 0.3 * 127 = 38.1
        "int8": [[64, -127, 0], [24, -25, 38]],
        # times 7: 3.5 to 4, 1.33, 1.4, 2.1
        "int4": [[4, -7, 0], [1, -1, 2]],
        # below 0.2 of the largest magnitude is zero, 0.2 itself is not
        "ternary": [[1, -1, 0], [0, -1, 1]],
        "binary": [[1, -1, 1], [1, -1, 1]],
    }
    for method, codes in expected.items():
        assert quantise(weights, method, dims=(-2, -1)).codes.tolist() == codes, method
    # per channel the second row's largest is 0.3: 0.19 / 0.3 * 7 = 4.43, 0.2 / 0.3 * 7 = 4.67
    assert quantise(weights, "int4", dims=(-1,)).codes.tolist() == [[4, -7, 0], [4, -5, 7]]


def test_zero_weights_stay_zero_and_binary_zero_is_plus_one():
    zeros = torch.zeros(2, 2)
    for method in ("int8", "int4", "ternary"):
        assert torch.equal(quantise(zeros, method, dims=(-2, -1)).values, zeros)
    assert torch.equal(quantise(zeros, "binary", dims=(-2, -1)).values, torch.ones(2, 2))


def test_a_stack_is_quantised_as_each_of_its_networks_alone():
    stack = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1)) * torch.tensor([1, 9, 0.1, 3]).view(
        4, 1, 1
    )
    for method in ("int8", "int4", "ternary", "binary"):
        for scale in ("per-tensor", "per-channel"):
            dims = dims_of(scale, is_bias=False)
            alone = torch.stack([quantise(one, method, dims=dims).values for one in stack])
            assert torch.equal(quantise(stack, method, dims=dims).values, alone)


def test_the_straight_through_gradient_is_that_of_the_values():
    values = torch.tensor([0.3, -0.8], requires_grad=True)
    out = straight_through(values, "ternary", dims=(-1,))
    assert out.tolist() == [1.0, -1.0]
    (out * torch.tensor([2.0, 5.0])).sum().backward()
    assert values.grad.tolist() == [2.0, 5.0]


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("method", ["none", "int8", "int4", "ternary", "binary"])
@pytest.mark.parametrize("scale", ["per-tensor", "per-channel"])
def test_stored_weights_are_codes_times_scales_in_numbers_of_the_precision(precision, method, scale):
    weights = initial_weights(Architecture(7, 7, 2, 6, "relu"), np.random.default_rng(0))
    stored = as_stored(weights, method, scale, precision)
    assert (stored.codes is None) == (method == "none")
    for number, layer in enumerate(stored.weights):
        for array in layer:
            cast = torch.from_numpy(array).to(getattr(torch, precision)).float().numpy()
            assert np.array_equal(cast, array)
        if stored.codes is not None:
            codes = stored.codes[number]
            scales = codes.weight_scales.reshape(-1, 1) if scale == "per-channel" else codes.weight_scales
            values = torch.from_numpy(codes.weight_codes * scales).to(getattr(torch, precision)).float().numpy()
            assert np.array_equal(values, layer.weight)
            assert len(np.unique(codes.weight_codes)) <= {"int8": 255, "int4": 15, "ternary": 3, "binary": 2}[method]


def test_every_quantisation_that_a_config_may_name_has_its_function():
    assert QUANTISATIONS.names == ("none", "int8", "int4", "ternary", "binary")
    assert all(one.codes is None or callable(Later(one.codes).function) for one in QUANTISATIONS)
