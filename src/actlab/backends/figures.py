"""How actlab's pictures look, and how they become bytes."""

import io
import warnings
from contextlib import AbstractContextManager

import matplotlib.style
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, BROWN, SLATE = "#3566a8", "#d9772b", "#3c8d5a", "#a23b72", "#7a6a53", "#6b7785"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BROWN, SLATE)
GREY, INK = "#8a8f98", "#22262b"
_STYLE = {
    "figure.dpi": 130,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def styled(**more: object) -> AbstractContextManager[None]:
    """Lend the style to all that is drawn inside `with`; `more` are settings of matplotlib's, dots written "__"."""
    extra = {key.replace("__", "."): value for key, value in more.items()}
    return matplotlib.style.context(["default", _STYLE | extra])


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as PNG. It names no program and no time: the same figure has the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the face lacks is drawn as a box
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
