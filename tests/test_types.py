"""What type checkers know of the Python API: pyright's and mypy's strict modes on scripts that use all of it."""

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import actlab
from actlab.ground.options import options_of
from actlab.ground.options.fields import MISSING, groups_of
from actlab.ground.options.settings import by_option

ROOT = Path(__file__).parents[1]
FUNCTIONS = {name: getattr(actlab, name) for name in actlab.__all__ if not inspect.isclass(getattr(actlab, name))}
BY_HAND_ALONE = {"cost"}
"""Functions whose keywords are another function's."""
VALUES = {str: "Path('x')", Path: "'x'", int: "1", float: "0.5", bool: "True", object: "{'a': 1}"}

BY_HAND = """
def what_a_user_writes(folder: Path, more: list[Path]) -> None:
    for one in actlab.extract_activations(model=more, dataset=folder, layers=[0, 5, -1], splits="EM", dtype="float32"):
        assert_type(one.path, Path)
        assert_type(one.n_examples, int)
    made = actlab.run_data_gen(config_path=folder / "a.yaml", model={"vocab_size": 7}, seed=3, output=folder)
    assert_type(made.path, Path)
    assert_type(actlab.parse_layers_arg("0-3"), list[int])
    for rows in actlab.load_activations(folder, 3):
        assert_type(rows.shape[0], int)
    assert_type(actlab.ExtractConfig(layers="3").layers, str)
    (cost,) = actlab.cost(actlab.extract_activations, model="actlab/tiny", dataset=folder, dtype="float32")
    assert_type(cost.n_tokens, int | None)
    assert_type(actlab.cost(actlab.ExtractConfig(limit=3))[0].path, Path)
    assert_type(actlab.__version__, str)
"""


def hints_of(function) -> dict[str, typing.Any]:
    return typing.get_type_hints(getattr(function, "__wrapped__", function))


def config_of(function) -> type | None:
    first = next(iter(hints_of(function).values()))
    return first if dataclasses.is_dataclass(first) else None


def as_code(hint: typing.Any) -> str:
    """What a type is called in a script; jaxtyping's, which a script cannot name, is whatever it is."""
    text = repr(hint) if typing.get_origin(hint) or not isinstance(hint, type) else f"{hint.__module__}.{hint.__name__}"
    return "typing.Any" if "jaxtyping" in text else text.replace("builtins.", "").replace("NoneType", "None")


def keywords(config_class: type) -> Iterator[str]:
    """Every keyword that takes the settings of a config, with a value."""
    yield from (f"{name}={{'a': 1}}" for name in groups_of(config_class) if "." not in name)
    for option in options_of(config_class):
        value = repr(option.choices[0]) if option.choices else VALUES[option.kind]
        if name := option.alias if "." in option.name else option.name:
            yield f"{name}={f'[{value}]' if option.is_repeatable else value}"


def calls(name: str) -> Iterator[str]:
    """A function that calls a public one in every way there is."""
    function, hints = FUNCTIONS[name], hints_of(FUNCTIONS[name])
    result = as_code(hints.pop("return"))
    if config := config_of(function):
        hints = {"config": config}
        ways = ["config", 'config_path="a.yaml"', ", ".join(keywords(config))]
    else:
        positional = {one.name for one in inspect.signature(function).parameters.values() if one.kind < 2}
        ways = [", ".join(one if one in positional else f"{one}={one}" for one in hints)]
    yield f"def calls_{name}({', '.join(f'{one}: {as_code(hint)}' for one, hint in hints.items())}) -> None:"
    for way in ways:
        call = f"actlab.{name}({way})"
        yield f"    {call}" if "Any" in result else f"    assert_type({call}, {result})"


def wrong_calls(name: str) -> Iterator[str]:
    """Calls that no checker may let pass."""
    if not (config := config_of(FUNCTIONS[name])):
        return
    yield f'actlab.{name}(config_path="a.yaml", no_such_setting=1)'
    own = [option for option in options_of(config) if "." not in option.name]
    for option in {(one.kind, one.choices[:1], one.is_repeatable): one for one in own}.values():  # one of each type
        yield f'actlab.{name}(config_path="a.yaml", {option.name}=object())'
    for option in own:
        if option.default is MISSING:
            yield f"actlab.{name}({', '.join(one for one in keywords(config) if one.split('=')[0] != option.name)})"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    right = [line for name in sorted(FUNCTIONS.keys() - BY_HAND_ALONE) for line in ("", *calls(name))]
    wrong = [line for name in sorted(FUNCTIONS.keys() - BY_HAND_ALONE) for line in wrong_calls(name)]
    wrong += ["actlab.cost(actlab.extract_activations, no_such_setting=1)", "actlab.cost(1)"]
    named = re.findall(r"\b(?:actlab|pathlib|typing|collections)\.[\w.]+", "\n".join(right))
    modules = sorted({name.rpartition(".")[0] for name in named})
    head = ["from pathlib import Path", "from typing import assert_type"]
    imports = [f"import {module}" for module in modules]
    (folder / "right.py").write_text("\n".join([*head, *imports, BY_HAND, *right, ""]))
    (folder / "wrong.py").write_text("\n".join([*head, "import actlab", *wrong, ""]))
    (folder / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "strict", "extraPaths": [str(ROOT / "src")], "include": ["."]})
    )
    return folder


def errors_of_pyright(scripts: Path) -> list[tuple[str, int, str]]:
    pytest.importorskip("basedpyright")  # pyright with all that it needs to run, as a package
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "-p", scripts, "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    found = [one for one in json.loads(done.stdout)["generalDiagnostics"] if one["severity"] == "error"]
    return [(Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["message"]) for one in found]


def errors_of_mypy(scripts: Path) -> list[tuple[str, int, str]]:
    """Errors by the package's own settings, which are strict, with what is known of it from `make check`."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", scripts / "right.py", scripts / "wrong.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    found = re.findall(r"^(.*):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return [(Path(path).name, int(line), message) for path, line, message in found]


@pytest.mark.parametrize("errors_of", [errors_of_pyright, errors_of_mypy])
def test_a_checker_knows_every_functions_keywords_and_what_it_returns(errors_of, scripts):
    errors = errors_of(scripts)
    assert [one for one in errors if one[0] != "wrong.py"] == []
    lines = (scripts / "wrong.py").read_text().splitlines()
    refused = {line for _, line, _ in errors}
    assert [line for n, line in enumerate(lines, 1) if line.startswith("actlab.") and n not in refused] == []


def test_every_keyword_of_the_stub_is_taken_when_it_runs():
    stub = ast.parse((ROOT / "src" / "actlab" / "__init__.pyi").read_text(encoding="utf-8"))
    ways = [one for one in stub.body if isinstance(one, ast.FunctionDef)]
    for way in ways:
        for keyword in way.args.kwonlyargs:
            if keyword.arg != "config_path":
                by_option(config_of(FUNCTIONS[way.name]), {keyword.arg: {}})
    assert {way.name for way in ways} == {name for name, function in FUNCTIONS.items() if config_of(function)}
