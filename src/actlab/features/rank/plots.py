"""The ranking as pictures: scores by layer, and sentences shaded by a feature's activation."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from actlab.backends.figures import BLUE, GREY, INK, ORANGE, png_bytes, styled
from actlab.features.rank.compute.examples import Example, FeatureExamples
from actlab.features.rank.source import Configuration, layer_and_l0
from actlab.formats.ranking import FALSE_DISCOVERY_RATE, RankedFeature, discoveries
from actlab.ground.storage import NewFile

_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#bcd0ea", BLUE])
_N_NAMED = 12
_SIDE_INCHES = 1.9
_MOST_STRIPS = 5
_GOLDEN = 0.618

# A strip is set in a fixed-width face on a grid: one cell is one character wide, one line high.
_FONT_POINTS = 8.0
_CELL_INCHES = 0.602 * _FONT_POINTS / 72  # DejaVu Sans Mono's advance
_LINE_INCHES = 0.2
_CELLS = 96
_LEFT_CELLS = 19
_MOST_LINES = 3
_WHITE_ABOVE = 0.87
_SHOWN = {"\n": "⏎", "\t": "→", "\r": "·"}


class Cell(NamedTuple):
    """A token on the grid."""

    line: int
    column: int
    text: str
    activation: float


def plot_files(
    features: Sequence[RankedFeature], examples: Sequence[FeatureExamples], tested: Sequence[Configuration]
) -> Iterator[NewFile]:
    """Yield the plots: scores over the layers tested, and strips for the best features; none without features."""
    if not features:
        return
    with styled(text__parse_math=False):  # a token may be "$"
        yield NewFile("plots/scores_by_layer.png", png_bytes(draw_scores(features, tested)))
        for one in [one for one in examples if one.examples][:_MOST_STRIPS]:
            feature = one.feature
            name = f"strips_{feature.rank:02d}_layer_{feature.layer}_feature_{feature.feature_id}"
            yield NewFile(f"plots/{name}.png", png_bytes(draw_strips(one)))


def draw_scores(features: Sequence[RankedFeature], tested: Sequence[Configuration]) -> Figure:
    """Draw each listed feature's score over its layer, the best ones numbered and named at the side."""
    configurations = sorted({layer_and_l0(one) for one in tested})
    figure = Figure(figsize=(max(7.0, 4.2 + 0.45 * len(configurations)), 4.4), layout="constrained")
    axes, side = figure.subplots(1, 2, width_ratios=[1, _SIDE_INCHES / (figure.get_figwidth() - _SIDE_INCHES)])
    n_before: Counter[int] = Counter()
    for feature in features:
        place, score = configurations.index(layer_and_l0(feature)), feature.interpretability_score
        x = place + ((n_before[place] * _GOLDEN + 0.5) % 1 - 0.5) * 0.7
        n_before[place] += 1
        is_named = feature.rank <= _N_NAMED
        axes.scatter(x, score, s=26 if is_named else 12, color=ORANGE if is_named else BLUE)
        if is_named:
            axes.annotate(
                f"{feature.rank}", (x, score), color=INK, xytext=(4, 3), textcoords="offset points", fontsize=8
            )
    axes.set_xticks(range(len(configurations)), _names(configurations))
    axes.margins(y=0.08)
    axes.grid(axis="y", color="#e4e6ea")
    found = discoveries(features)
    nothing = (
        f"none passes a false discovery rate of {FALSE_DISCOVERY_RATE:.0%} (smallest q {found.smallest_q or 0:.2g})"
    )
    axes.set(
        xlim=(-0.6, len(configurations) - 0.4),
        xlabel="layer" if len({layer for layer, _ in configurations}) == len(configurations) else "layer, L0",
        ylabel="interpretability score",
        title=f"{len(features)} features listed" + (f"\n{nothing}" if found.warning else ""),
    )
    _draw_names(side, features[:_N_NAMED])
    return figure


def draw_strips(one: FeatureExamples) -> Figure:
    """Draw the sentences of a feature, each token shaded by the feature's activation on it."""
    highest = max(value or 0.0 for example in one.examples for value in example.activations)
    blocks = [_lay_out(example) for example in one.examples]
    heights = [max((cell.line for cell in block), default=0) + 1.4 for block in blocks]
    n_lines = sum(heights) + 3.4
    figure = Figure(figsize=((_LEFT_CELLS + _CELLS + 4) * _CELL_INCHES, n_lines * _LINE_INCHES))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-2, _LEFT_CELLS + _CELLS + 2), ylim=(n_lines, 0))
    axes.axis("off")
    _draw_heading(axes, one.feature, highest)
    top = 3.0
    for example, block, height in zip(one.examples, blocks, heights, strict=True):
        _write(axes, 0, top, f"{example.activation:8.2f}  label {example.label:g}", GREY)
        for cell in block:
            share = max(0.0, cell.activation) / highest if highest > 0 else 0.0
            x, y = _LEFT_CELLS + cell.column, top + cell.line
            axes.add_patch(Rectangle((x, y + 0.06), _width(cell.text), 0.88, color=_SHADES(share), linewidth=0))
            _write(axes, x, y, cell.text, "white" if share > _WHITE_ABOVE else INK)
        top += height
    return figure


def _draw_names(axes: Axes, features: Sequence[RankedFeature]) -> None:
    """List the numbered features at the side."""
    axes.axis("off")
    rows = (f"{one.rank:3d} {one.layer:5d} {one.feature_id:7d}  {one.interpretability_score:5.2f}" for one in features)
    said = "\n".join(["  # layer feature  score", *rows])
    axes.text(
        0,
        1,
        said,
        va="top",
        ha="left",
        transform=axes.transAxes,
        family="monospace",
        fontsize=8,
        color=INK,
        linespacing=1.5,
    )


def _draw_heading(axes: Axes, feature: RankedFeature, highest: float) -> None:
    sae = "" if feature.average_l0 is None else f" (L0 {feature.average_l0})"
    said = f"{feature.rank}. layer {feature.layer}{sae}, feature {feature.feature_id}"
    axes.text(0, 0.9, said, fontsize=10, color=INK, va="center", weight="bold")
    _write(axes, 0, 1.5, f"score {feature.interpretability_score:.2f}   Pearson {feature.pearson_corr:.2f}", GREY)
    n_steps, start = 24, _LEFT_CELLS + _CELLS - 34
    _write(axes, start - 2, 1.5, "0", GREY)
    for step in range(n_steps):
        axes.add_patch(Rectangle((start + step, 1.65), 1, 0.7, color=_SHADES(step / (n_steps - 1)), linewidth=0))
    _write(axes, start + n_steps + 1, 1.5, f"{highest:.2f}", GREY)


def _write(axes: Axes, column: float, line: float, text: str, colour: str) -> None:
    axes.text(column, line + 0.5, text, va="center", ha="left", family="monospace", fontsize=_FONT_POINTS, color=colour)


def _lay_out(example: Example) -> list[Cell]:
    """Set the tokens line by line; of a long sentence the part around the activation it was chosen by."""
    values = [value or 0.0 for value in example.activations]
    shown = [_shown(token) for token in example.tokens or ["·"] * len(values)]
    nearest = min(range(len(values)), key=lambda place: abs(values[place] - example.activation), default=0)
    first, last = _window(shown, nearest)
    cut, pieces = [("…", 0.0)], list(zip(shown, values, strict=True))[first:last]
    pieces = cut * (first > 0) + pieces + cut * (last < len(shown))
    cells, line, column = [], 0, 0
    for text, value in pieces:
        if column and column + _width(text) > _CELLS:
            line, column, text = line + 1, 0, text.lstrip(" ") or text
        cells.append(Cell(line, column, text, value))
        column += _width(text)
    return cells


def _window(shown: Sequence[str], middle: int) -> tuple[int, int]:
    """Return the longest run of tokens around one of them that fits."""
    first, last = middle, min(middle + 1, len(shown))
    room = (_MOST_LINES - 0.5) * _CELLS - sum(map(_width, shown[first:last]))
    while True:
        before = _width(shown[first - 1]) if first > 0 else None
        after = _width(shown[last]) if last < len(shown) else None
        if before is not None and before <= room:
            first, room = first - 1, room - before
        elif after is None or after > room:
            return first, last
        if after is not None and after <= room:
            last, room = last + 1, room - after


def _shown(token: str) -> str:
    """Return a token as it can be drawn: no line breaks, no controls, no wider than a line."""
    text = "".join(_SHOWN.get(char, char if char.isprintable() else "·") for char in token)
    return text if _width(text) <= _CELLS // 2 else text[: _CELLS // 4] + "…"


def _width(text: str) -> int:
    """Return how many cells a text takes: wide characters two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _names(configurations: Sequence[tuple[int, int]]) -> list[str]:
    """Name the layers, and their SAEs where a layer has several."""
    is_one_each = len({layer for layer, _ in configurations}) == len(configurations)
    return [str(layer) if is_one_each else f"{layer}\n{l0}" for layer, l0 in configurations]
