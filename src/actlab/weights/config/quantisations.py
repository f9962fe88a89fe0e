"""Quantisations: how few values the stored weights may have."""

from dataclasses import dataclass

from actlab.ground.variants import Table, Variant


@dataclass(frozen=True, kw_only=True)
class Quantisation(Variant):
    """A way to store weights as integer codes and scales."""

    codes: str | None = None
    """Where its function from values and their largest magnitude to codes and scales is, as "module:function"; None
    where weights stay as they are."""
    in_training: bool = False
    """Trained with quantised weights, which are whole numbers: quantising afterwards ruins most networks."""


QUANTISATIONS = Table(
    "quantisation",
    Quantisation(name="none", help="weights stay as they are", hint="choose int8 for fewer values"),
    Quantisation(
        name="int8",
        help="codes −127 to 127, scale max|w|/127",
        hint="set model.quantization to none, or model.quantization_scale to per-channel",
        codes="actlab.weights.quantise:int8",
    ),
    Quantisation(
        name="int4",
        help="codes −7 to 7, scale max|w|/7",
        hint="set model.quantization to int8, or model.quantization_scale to per-channel",
        codes="actlab.weights.quantise:int4",
    ),
    Quantisation(
        name="ternary",
        help="code 0 where |w| < 0.2·max|w|, else the sign; scale 1",
        hint="raise model.neurons_per_layer or training.epochs: few values learn slowly",
        codes="actlab.weights.quantise:ternary",
        in_training=True,
    ),
    Quantisation(
        name="binary",
        help="the sign, 0 as +1; scale 1",
        hint="raise model.neurons_per_layer or training.epochs: few values learn slowly",
        codes="actlab.weights.quantise:binary",
        in_training=True,
    ),
    is_open=False,
)
