"""The report as one page of pictures: what was rejected, how the rest scores, how much of it repeats."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from actlab.backends.figures import BLUE, GREY, ORANGE, png_bytes, styled
from actlab.ground.storage import NewFile
from actlab.text.refine.sink import Report

_PAGE = (11.0, 10.5)
_MOST_OPENINGS = 8
_MOST_LABELS = 10
_BAR = 0.38


def plot_file(report: Report) -> NewFile:
    """Return the page of a report as `plots/report.png`."""
    draws = (_draw_rejects, _draw_scores, _draw_parts, _draw_distinct, _draw_openings, _draw_labels)
    with styled(text__parse_math=False):  # a text may hold "$"
        figure = Figure(figsize=_PAGE, layout="constrained")
        for axes, draw in zip(figure.subplots(3, 2).flat, draws, strict=True):
            draw(axes, report)
        return NewFile("plots/report.png", png_bytes(figure))


def _draw_rejects(axes: Axes, report: Report) -> None:
    counts = {"chosen": report["after"]["n_documents"], **report["rejects"]}
    colours = [BLUE, *[ORANGE] * len(report["rejects"])]
    axes.bar_label(axes.barh(list(counts), list(counts.values()), color=colours), padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(title=f"{report['before']['n_documents']} documents: what became of them", xlabel="documents")


def _draw_scores(axes: Axes, report: Report) -> None:
    scores = report["scores"]
    width = scores["bin_width"]
    places = [(number + 0.5) * width for number in range(len(scores["scored"]))]
    axes.bar(places, scores["scored"], width, color=GREY, label="passed the gates")
    axes.bar(places, scores["chosen"], width, color=BLUE, label="chosen")
    shuffled = report["against_shuffled"]["auroc"]
    axes.set(xlim=(0, 1), xlabel=f"score: a format check (AUROC against shuffled words {shuffled:.2f})")
    axes.set(ylabel="documents", title=f"Scores (mean chosen {scores['mean_chosen']:.3f})")
    axes.legend(fontsize=9, loc="upper left")


def _draw_parts(axes: Axes, report: Report) -> None:
    parts = report["parts"].values()
    _draw_pairs(axes, list(report["parts"]), [one["scored"] for one in parts], [one["chosen"] for one in parts])
    axes.set(title="Parts of the score, mean", xlim=(0, 1))


def _draw_distinct(axes: Axes, report: Report) -> None:
    before, after = report["before"], report["after"]
    values = [
        [one["distinct_1"], one["distinct_2"], one["distinct_3"], one["distinct_4"], one["near_duplicate_rate"]]
        for one in (before, after)
    ]
    _draw_pairs(axes, ["distinct 1", "distinct 2", "distinct 3", "distinct 4", "near duplicate rate"], *values)
    axes.set(title="How much is said once", xlim=(0, 1))
    axes.set_xlabel(f"share (self-repetition {before['self_repetition']:.2f}, then {after['self_repetition']:.2f})")


def _draw_openings(axes: Axes, report: Report) -> None:
    shown = report["openings"][:_MOST_OPENINGS]
    names = [one["opening"] for one in shown]
    _draw_pairs(axes, names, [one["share_before"] for one in shown], [one["share"] for one in shown])
    axes.set(title="Frequent openings", xlabel="share of the documents")


def _draw_labels(axes: Axes, report: Report) -> None:
    labels = {name: one for name, one in report["labels"].items() if one["before"] > 1}
    kept = {name: one["after"] / one["before"] for name, one in labels.items()}
    shown = sorted(kept, key=lambda name: (kept[name], name))[:_MOST_LABELS]
    axes.set(title="Values of each label that are kept" if shown else "No labels", xlim=(0, 1.12))
    bars = axes.barh(shown, [kept[name] for name in shown], color=BLUE)
    said = [f"{labels[name]['after']} of {labels[name]['before']}" for name in shown]
    axes.bar_label(bars, padding=3, labels=said, fontsize=8)
    axes.invert_yaxis()


def _draw_pairs(
    axes: Axes, names: Sequence[str], before: Iterable[float | None], after: Iterable[float | None]
) -> None:
    """Draw two bars for each name; what there is no value of has none."""
    places = range(len(names))
    for values, offset, colour, label in ((before, -_BAR / 2, GREY, "before"), (after, _BAR / 2, BLUE, "after")):
        axes.barh([place + offset for place in places], [one or 0.0 for one in values], _BAR, color=colour, label=label)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.legend(fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.99), borderaxespad=0)  # above the bars
