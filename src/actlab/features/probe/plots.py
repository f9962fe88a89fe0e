"""The scores as pictures: by layer, ROC, confusion, and the rows along the probe's direction."""

# n sample, k class

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from actlab.backends.figures import COLOURS, GREY, png_bytes, styled
from actlab.features.probe.compute.fit import Tested
from actlab.ground.storage import NewFile

_WIDE = (5.6, 4.0)
_SQUARE = (4.4, 4.4)
_MOST_BINS = 40
_DARK = 0.55

Draw = Callable[[Axes], None]


def plot_files(tested: Tested, layer: int | None, results: dict[str, Any]) -> Iterator[NewFile]:
    """Yield the plots of a probe, and of its layers where there are several; `tested` is the layer shown."""
    shown = results if layer is None else results["layers"][str(layer)]
    of_layer = "" if layer is None else f", layer {layer}"
    if layer is not None and len(results["layers"]) > 1:
        yield _png("layers", lambda axes: _draw_layers(axes, results))
    if not tested.classes:
        yield _png("predictions", lambda axes: _draw_predictions(axes, tested, shown, of_layer), _SQUARE)
        return
    if shown["test_roc_auc"] is not None:
        yield _png("roc", lambda axes: _draw_roc(axes, tested, shown, of_layer), _SQUARE)
    yield _png("confusion", lambda axes: _draw_confusion(axes, tested, shown, of_layer), _SQUARE)
    yield _png("projection", lambda axes: _draw_projection(axes, tested, of_layer))


def _png(name: str, draw: Draw, size: tuple[float, float] = _WIDE) -> NewFile:
    with styled(figure__constrained_layout__use=True):
        figure = Figure(figsize=size)
        draw(figure.subplots())
        return NewFile(f"plots/{name}.png", png_bytes(figure))


def _draw_layers(axes: Axes, results: dict[str, Any]) -> None:
    """Draw the test score of every layer with its interval, the folds' mean, and what shuffled labels reach."""
    layers = [int(layer) for layer in results["layers"]]
    rows = list(results["layers"].values())
    key, label = ("test_roc_auc", "AUROC") if "test_roc_auc" in rows[0] else ("test_r2", "R²")
    low, high = np.array([row[f"{key}_interval"] or (np.nan, np.nan) for row in rows]).T
    axes.fill_between(layers, low, high, color=COLOURS[0], alpha=0.18, lw=0, label="95 % interval")
    axes.plot(layers, _numbers(row[key] for row in rows), color=COLOURS[0], marker="o", ms=4, label="test rows")
    axes.plot(layers, _numbers(row["cv_mean"] for row in rows), color=COLOURS[1], lw=1.2, ls="--", label="folds")
    shuffled = _numbers(row["baselines"]["shuffled_labels"][key] for row in rows)
    axes.plot(layers, shuffled, color=GREY, lw=1.2, ls=":", label="shuffled labels")
    axes.axvline(results["best_layer"], color=GREY, lw=0.8, zorder=0)
    axes.axhline(0.5 if key == "test_roc_auc" else 0.0, color=GREY, lw=0.8, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="layer", ylabel=label, title=f"{label} by layer (best by folds: {results['best_layer']})")
    if key == "test_r2":
        axes.set_ylim(bottom=max(axes.get_ylim()[0], -1.0))
    axes.figure.legend(loc="outside lower center", ncols=4, fontsize=9)


def _draw_roc(axes: Axes, tested: Tested, shown: dict[str, Any], of_layer: str) -> None:
    """Draw the ROC of the second class of two, or of each class against the rest."""
    several = len(tested.classes) > 2
    for k in range(0 if several else 1, len(tested.classes)):
        false_rate, true_rate, _ = roc_curve(tested.y == tested.classes[k], tested.scores[:, k])
        name = f"class {tested.classes[k]} against the rest" if several else None
        axes.plot(false_rate, true_rate, color=COLOURS[k % len(COLOURS)] if several else COLOURS[0], label=name)
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal", xlim=(-0.01, 1.01))
    axes.set(ylim=(-0.01, 1.01), title=f"ROC{of_layer}: AUROC {_with_interval(shown, 'test_roc_auc')}")
    if several:
        axes.legend(loc="lower right", fontsize=9)


def _draw_confusion(axes: Axes, tested: Tested, shown: dict[str, Any], of_layer: str) -> None:
    """Draw the counts, coloured by their share of the true class."""
    counts = np.array(shown["confusion_matrix"])
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > _DARK else "black"
        axes.text(column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center", color=colour)
    ticks = range(len(tested.classes))
    axes.set_xticks(ticks, labels=[str(one) for one in tested.classes])
    axes.set_yticks(ticks, labels=[str(one) for one in tested.classes])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    balanced = f"{shown['test_balanced_accuracy']:.2f}"
    axes.set(xlabel="class said", ylabel="true class", title=f"Test rows{of_layer}: balanced accuracy {balanced}")


def _draw_projection(axes: Axes, tested: Tested, of_layer: str) -> None:
    """Draw how the test rows of each class lie along the probe's direction."""
    n_bins = int(np.clip(2 * len(tested.along) ** 0.5, 10, _MOST_BINS))
    edges = np.linspace(*_range_of(tested.along), n_bins + 1).tolist()
    opacity = 0.4 if len(tested.classes) == 2 else 0.12
    for k, one in enumerate(tested.classes):
        colour = COLOURS[k % len(COLOURS)]
        inside = tested.along[tested.y == one]
        axes.hist(inside, edges, color=colour, alpha=opacity, label=f"class {one} ({len(inside)} rows)")
        axes.hist(inside, edges, color=colour, histtype="step", lw=1.2)
    axes.axvline(0, color=GREY, lw=0.8, ls="--")
    first, last = tested.classes[0], tested.classes[-1]
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=f"log-odds of class {last} against {first}", ylabel="test rows")
    axes.set_title(f"Test rows along the probe's direction{of_layer}")
    axes.set_ylim(0, axes.get_ylim()[1] * (1 + 0.07 * len(tested.classes)))  # room for the legend
    axes.legend(fontsize=9)


def _draw_predictions(axes: Axes, tested: Tested, shown: dict[str, Any], of_layer: str) -> None:
    """Draw what was predicted against what is, for a regression."""
    low, high = _range_of(np.concatenate([tested.y, tested.said]))
    axes.plot([low, high], [low, high], color=GREY, lw=0.8, ls="--")
    axes.scatter(tested.y, tested.said, s=14, color=COLOURS[0], alpha=0.6, lw=0)
    axes.set(xlabel="target", ylabel="predicted", title=f"Test rows{of_layer}: R² {_with_interval(shown, 'test_r2')}")


def _with_interval(shown: dict[str, Any], key: str) -> str:
    value, interval = shown[key], shown[f"{key}_interval"]
    text = "not defined" if value is None else f"{value:.2f}"
    return text if interval is None else f"{text} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _numbers(values: Any) -> list[float]:
    return [np.nan if value is None else float(value) for value in values]


def _range_of(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)
