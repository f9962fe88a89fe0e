"""Layer specs, options, seeds, parts."""

import io
import logging
import re
import sys
import warnings
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actlab.ground.errors import ConfigError
from actlab.ground.layers import parse_layers
from actlab.ground.options import RunOptions, added, execution, from_settings, identity_of, options_of
from actlab.ground.progress import progress
from actlab.ground.seeds import derive_seed
from actlab.ground.units import Part


@given(st.integers(1, 40), st.data())
def test_a_layer_spec_means_what_python_ranges_mean(n_layers, data):
    index = st.integers(-n_layers, n_layers - 1)
    chosen: set[int] = set()
    items = []
    for _ in range(data.draw(st.integers(1, 5))):
        first = data.draw(index)
        if data.draw(st.booleans()):
            items.append(str(first))
            chosen.add(list(range(n_layers))[first])
        else:
            low = first % n_layers
            high = data.draw(st.integers(low, n_layers - 1))
            step = data.draw(st.integers(1, 5))
            items.append(f"{low}-{high}:{step}" if step > 1 else f"{low}-{high}")
            chosen |= set(range(low, high + 1, step))
    assert parse_layers(",".join(items), n_layers) == tuple(sorted(chosen))


@pytest.mark.parametrize("spec", ["", "a", "0,", "1:2", "0-4:0", "--1", "0--", "1.5", "0 - - 3", "all,0"])
def test_a_layer_spec_that_does_not_parse_is_refused(spec):
    with pytest.raises(ConfigError, match="does not parse"):
        parse_layers(spec, 12)


@pytest.mark.parametrize(("spec", "layer"), [("12", 12), ("-13", -13), ("0-40", 40)])
def test_a_layer_that_is_not_there_is_named(spec, layer):
    with pytest.raises(ConfigError, match=f"names layer {layer}, but the model has 12"):
        parse_layers(spec, 12)


def test_ranges_may_count_from_the_end_but_not_run_backwards():
    assert parse_layers("-3--1", 12) == (9, 10, 11)
    with pytest.raises(ConfigError, match="runs backwards: 5 to 2"):
        parse_layers("5-2", 12)


@dataclass(frozen=True, kw_only=True)
class Settings(RunOptions):
    name: str
    """Whose."""
    sizes: tuple[int, ...] = (1, 2)
    """How large."""
    kind: Literal["a", "b"] = "a"
    rate: float | None = None
    output: str = execution("out")
    """Where."""


def test_a_field_is_an_option_with_its_name_type_default_and_help():
    options = {option.name: option for option in options_of(Settings)}
    assert list(options)[:5] == ["name", "sizes", "kind", "rate", "output"], "own fields first"
    assert options["sizes"].is_repeatable
    assert options["sizes"].kind is int
    assert options["kind"].choices == ("a", "b")
    assert options["rate"].is_optional
    assert (options["name"].help, options["output"].help) == ("Whose.", "Where.")
    assert options["output"].is_execution
    assert options["part"].flag == "--part"
    assert options["dry_run"].flag == "--dry-run"


def test_identity_is_what_changes_the_data():
    config = from_settings(Settings, {"name": "x", "output": "elsewhere", "quiet": True, "rate": 3})
    assert identity_of(config) == {"name": "x", "sizes": (1, 2), "kind": "a", "rate": 3.0}


@dataclass(frozen=True, kw_only=True)
class LaterSettings(Settings):
    """The same, and one more."""

    scale: float | None = added(None)
    """By what."""


def test_a_setting_added_later_leaves_the_identity_of_what_was_made_without_it():
    of_old = identity_of(from_settings(Settings, {"name": "x"}))
    assert identity_of(from_settings(LaterSettings, {"name": "x"})) == of_old
    assert identity_of(from_settings(LaterSettings, {"name": "x", "scale": 2})) == of_old | {"scale": 2.0}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "name must be given"),
        ({"name": "x", "sizs": 1}, "no setting 'sizs'"),
        ({"name": "x", "sizes": ["1"]}, "sizes takes a whole number, not '1'"),
        ({"name": "x", "sizes": True}, "sizes takes a whole number, not True"),
        ({"name": "x", "kind": "c"}, "kind cannot be 'c'"),
        ({"name": None}, "name takes text, not None"),
        ({"name": "x", "rate": "fast"}, "rate takes a number"),
        ({"name": "x", "quiet": "yes"}, "quiet takes true or false"),
    ],
)
def test_a_wrong_setting_is_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        from_settings(Settings, settings)


@given(st.integers(1, 20), st.integers(0, 500))
def test_every_unit_is_exactly_one_parts(of, unit):
    assert sum(Part(number, of).has(unit) for number in range(1, of + 1)) == 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_part_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="not a part"):
        Part.parse(text)


@given(st.integers(0, 9), st.lists(st.integers(0, 9) | st.text(max_size=3), max_size=3))
def test_seeds_differ_by_path_and_fit_a_generator(seed, path):
    value = derive_seed(seed, *path)
    assert 0 <= value < 2**63
    assert value == derive_seed(seed, *path)
    assert value != derive_seed(seed, *path, "more")


def test_progress_logs_now_and_then_where_nobody_watches(monkeypatch, caplog):
    caplog.set_level("INFO", logger="actlab")
    monkeypatch.setattr("actlab.ground.progress.LOG_EVERY_S", 0.0)
    with progress("reading", total=10, unit="row") as more:
        more(4)
    assert "reading: 4 of 10 rows" in caplog.text
    caplog.clear()
    with progress("reading", total=10, unit="row", quiet=True) as more:
        more(4)
    assert caplog.text == ""


class Terminal(io.StringIO):
    """A terminal that keeps what was written to it, and can show it as a screen would."""

    def isatty(self):
        return True

    def lines(self):
        """Return the lines in which anything is left to see."""
        screen, row, column = [[]], 0, 0
        for piece in re.split("(\n|\r|\x1b\\[A)", self.getvalue()):
            if piece in {"\n", "\r", "\x1b[A"}:
                row, column = row + {"\n": 1, "\x1b[A": -1}.get(piece, 0), 0 if piece != "\x1b[A" else column
                screen += [[]] * (row == len(screen))
            else:
                line = screen[row] = screen[row] + [" "] * (column - len(screen[row]))
                line[column : column + len(piece)] = piece
                column += len(piece)
        return list(filter(None, ("".join(line).rstrip() for line in screen)))


@pytest.mark.parametrize("first_line", ["before the bar", "inside the bar"])
def test_what_is_said_beside_a_bar_stands_on_lines_of_its_own(first_line, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's own
    logging.basicConfig(format="%(message)s")
    own = logging.getLogger("a library with a handler of its own")  # as transformers and huggingface_hub have
    monkeypatch.setattr(own, "propagate", False)
    if first_line == "before the bar":
        own.addHandler(logging.StreamHandler())
    with warnings.catch_warnings(), progress("counting", total=9, unit="row") as more:
        warnings.simplefilter("always")
        if first_line == "inside the bar":
            own.addHandler(logging.StreamHandler())
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: sys.stderr.write(f"{message}\n"))
        more(1, note="row 1")
        logging.getLogger("actlab").warning("ours: two\nlines")
        more(3)
        own.warning("a library's")
        warnings.warn("a warning", stacklevel=1)
        with progress("inside", total=2, unit="part") as inner:
            inner(1)
            logging.getLogger("another").error("a second bar's")
        sys.stderr.writelines(["in", " ", "pieces", "\n"])
        sys.stderr.write("without an end")
    assert sys.stderr is terminal
    own.warning("after it")
    logging.getLogger("actlab").warning("and ours")
    own.handlers.clear()
    assert terminal.lines() == [
        *("ours: two", "lines", "a library's", "a warning", "a second bar's", "in pieces"),
        *("without an endafter it", "and ours"),
    ]
    assert "counting:  44%" in terminal.getvalue(), "the bar is drawn, and again after a line"
