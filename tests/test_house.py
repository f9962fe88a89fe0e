"""The house keeps its own rules: import contracts break when broken, pages say what the code does."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from actlab.formats.activations import EXAMPLES_SCHEMA, SEED_KEYS

ROOT = Path(__file__).parent.parent

VIOLATIONS = {
    "ground imports a pipeline": ("ground/seeds.py", "import actlab.activations.config"),
    "formats imports backends": ("formats/activations.py", "import actlab.backends.hub"),
    "backends imports formats": ("backends/hub.py", "import actlab.formats.activations"),
    "a pipeline imports the command line": ("activations/run.py", "import actlab.cli.main"),
    "compute imports the sink": ("activations/compute.py", "import actlab.activations.sink"),
    "config imports source": ("activations/config.py", "import actlab.activations.source"),
    "ground imports torch": ("ground/seeds.py", "import torch"),
    "a config imports numpy": ("activations/config.py", "import numpy"),
    "a module stands outside the floors": ("stray.py", ""),
    "a module stands outside the pipeline's parts": ("activations/stray.py", ""),
}


def contracts_hold(source: Path) -> bool:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint_imports, "--config", ROOT / ".importlinter", "--no-cache"],
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"},
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts: " in done.stdout or "Missing" in done.stdout, done.stdout + done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("name", [None, *VIOLATIONS])
def test_each_import_contract_breaks_when_it_is_broken(name, tmp_path):
    shutil.copytree(ROOT / "src" / "actlab", tmp_path / "actlab")
    if name is not None:
        where, line = VIOLATIONS[name]
        path = tmp_path / "actlab" / where
        path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    assert contracts_hold(tmp_path) is (name is None)


def test_the_commands_page_is_what_help_prints():
    spec = importlib.util.spec_from_file_location("commands_page", ROOT / "scripts" / "commands_page.py")
    commands_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(commands_page)
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert page == commands_page.page(), "run: make docs"


def table_of(page: str, heading: str) -> list[str]:
    """Return the first column of the table under a heading."""
    section = page.split(f"### {heading}\n")[1].split("\n#")[0]
    return re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE)


def test_the_formats_page_lists_the_fields_that_are_written(llama, dataset, tmp_path):
    import json

    import actlab

    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (dump,) = actlab.extract_activations(model=llama, dataset=dataset, output=tmp_path / "out")
    metadata = json.loads((dump.path / "EM" / "metadata.json").read_text())
    assert table_of(page, "`metadata.json`") == list(metadata)
    assert list(metadata)[: len(SEED_KEYS)] == list(SEED_KEYS)
    assert table_of(page, "`examples.parquet`") == EXAMPLES_SCHEMA.names
    manifest = json.loads((dump.path / "manifest.json").read_text())
    assert table_of(page, "`manifest.json`") == list(manifest)


def test_the_pages_name_no_file_that_is_not_there():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
