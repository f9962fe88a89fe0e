"""The scores as pictures: by layer, ROC, confusion, and the rows along the probe's direction."""

# n sample, k class

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from actlab.backends.figures import COLOURS, GREY, png_bytes, styled
from actlab.features.probe.compute.fit import Probe
from actlab.features.probe.compute.scores import with_interval
from actlab.ground.storage import NewFile

_WIDE = (5.6, 4.0)
_SQUARE = (4.4, 4.4)
_MOST_BINS = 40
_DARK = 0.55


def plot_files(probes: Mapping[int | None, Probe], best: int | None) -> Iterator[NewFile]:
    """Yield the plots of a probe; of dumps those of the best layer, and of the layers where there are several."""
    probe = probes[best]
    of_layer = "" if best is None else f", layer {best}"
    if best is not None and len(probes) > 1:
        yield _png("layers", lambda axes: _draw_layers(axes, probes, best))
    if not probe.classes:
        yield _png("predictions", lambda axes: _draw_predictions(axes, probe, of_layer), _SQUARE)
        return
    if probe.score is not None:
        yield _png("roc", lambda axes: _draw_roc(axes, probe, of_layer), _SQUARE)
    yield _png("confusion", lambda axes: _draw_confusion(axes, probe, of_layer), _SQUARE)
    yield _png("projection", lambda axes: _draw_projection(axes, probe, of_layer))


def _png(name: str, draw: Callable[[Axes], None], size: tuple[float, float] = _WIDE) -> NewFile:
    with styled(figure__constrained_layout__use=True):
        figure = Figure(figsize=size)
        draw(figure.subplots())
        return NewFile(f"plots/{name}.png", png_bytes(figure))


def _draw_layers(axes: Axes, probes: Mapping[int | None, Probe], best: int) -> None:
    """Draw the test score of every layer with its interval, the folds' mean, and what shuffled labels reach."""
    layers, rows, target = _numbers(probes), list(probes.values()), probes[best].target
    low, high = np.array([row.interval or (np.nan, np.nan) for row in rows]).T
    axes.fill_between(layers, low, high, color=COLOURS[0], alpha=0.18, lw=0, label="95 % interval")
    axes.plot(layers, _numbers(row.score for row in rows), color=COLOURS[0], marker="o", ms=4, label="test rows")
    axes.plot(layers, _numbers(row.folds.cv_mean for row in rows), color=COLOURS[1], lw=1.2, ls="--", label="folds")
    shuffled = _numbers(row.baselines["shuffled_labels"][target.key] for row in rows)
    axes.plot(layers, shuffled, color=GREY, lw=1.2, ls=":", label="shuffled labels")
    axes.axvline(best, color=GREY, lw=0.8, zorder=0)
    axes.axhline(target.chance, color=GREY, lw=0.8, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="layer", ylabel=target.label, title=f"{target.label} by layer (best by folds: {best})")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], -1.0))
    axes.figure.legend(loc="outside lower center", ncols=4, fontsize=9)


def _draw_roc(axes: Axes, probe: Probe, of_layer: str) -> None:
    """Draw the ROC of the second class of two, or of each class against the rest."""
    several = len(probe.classes) > 2
    for k in range(0 if several else 1, len(probe.classes)):
        false_rate, true_rate, _ = roc_curve(probe.y == probe.classes[k], probe.said.scores[:, k])
        name = f"class {probe.classes[k]} against the rest" if several else None
        axes.plot(false_rate, true_rate, color=COLOURS[k % len(COLOURS)] if several else COLOURS[0], label=name)
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    axes.set(
        xlabel="false positive rate",
        ylabel="true positive rate",
        title=f"ROC{of_layer}: {_main(probe)}",
        aspect="equal",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )
    if several:
        axes.legend(loc="lower right", fontsize=9)


def _draw_confusion(axes: Axes, probe: Probe, of_layer: str) -> None:
    """Draw the counts, coloured by their share of the true class."""
    counts = np.array(probe.confusion)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > _DARK else "black"
        axes.text(column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center", color=colour)
    ticks, names = range(len(counts)), [str(one) for one in probe.classes]
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    balanced = with_interval(probe.scores["test_balanced_accuracy"])
    axes.set(
        xticks=ticks,
        xticklabels=names,
        yticks=ticks,
        yticklabels=names,
        xlabel="class said",
        ylabel="true class",
        title=f"Test rows{of_layer}: balanced accuracy {balanced}",
    )


def _draw_projection(axes: Axes, probe: Probe, of_layer: str) -> None:
    """Draw how the test rows of each class lie along the probe's direction."""
    n_bins = int(np.clip(2 * len(probe.along) ** 0.5, 10, _MOST_BINS))
    edges = np.linspace(*_range_of(probe.along), n_bins + 1).tolist()
    opacity = 0.4 if len(probe.classes) == 2 else 0.12
    for k, one in enumerate(probe.classes):
        colour = COLOURS[k % len(COLOURS)]
        inside = probe.along[probe.y == one]
        axes.hist(inside, edges, color=colour, alpha=opacity, label=f"class {one} ({len(inside)} rows)")
        axes.hist(inside, edges, color=colour, histtype="step", lw=1.2)
    axes.axvline(0, color=GREY, lw=0.8, ls="--")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(
        xlabel=f"log-odds of class {probe.classes[-1]} against {probe.classes[0]}",
        ylabel="test rows",
        title=f"Test rows along the probe's direction{of_layer}",
        ylim=(0, axes.get_ylim()[1] * (1 + 0.07 * len(probe.classes))),  # room for the legend
    )
    axes.legend(fontsize=9)


def _draw_predictions(axes: Axes, probe: Probe, of_layer: str) -> None:
    """Draw what was predicted against what is, for a regression."""
    low, high = _range_of(np.concatenate([probe.y, probe.said.labels]))
    axes.plot([low, high], [low, high], color=GREY, lw=0.8, ls="--")
    axes.scatter(probe.y, probe.said.labels, s=14, color=COLOURS[0], alpha=0.6, lw=0)
    axes.set(xlabel="target", ylabel="predicted", title=f"Test rows{of_layer}: {_main(probe)}")


def _main(probe: Probe) -> str:
    """Return the main score for people."""
    return f"{probe.target.label} {with_interval(probe.score, probe.interval)}"


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _range_of(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)
