"""The house keeps its own rules: import contracts break when broken, pages say what the code does."""

import ast
import copy
import csv
import importlib.metadata
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import grimp
import importlinter.configuration
import pytest
from importlinter.application import use_cases
from importlinter.application.app_config import settings

from actlab.formats.activations import EXAMPLES_SCHEMA, SEED_KEYS

ROOT = Path(__file__).parent.parent

VIOLATIONS = {
    "ground imports a pipeline": ("ground/seeds.py", "import actlab.activations.config"),
    "formats imports backends": ("formats/activations.py", "import actlab.backends.hub"),
    "backends imports formats": ("backends/hub.py", "import actlab.formats.activations"),
    "servers import backends": ("servers/wire.py", "import actlab.backends.hub"),
    "the hub imports backends": ("hub/push.py", "import actlab.backends.hub"),
    "a pipeline imports the command line": ("activations/job.py", "import actlab.cli.main"),
    "a pipeline imports what stands above all of them": ("activations/job.py", "import actlab.datasets"),
    "compute imports the sink": ("activations/compute.py", "import actlab.activations.sink"),
    "config imports source": ("activations/config.py", "import actlab.activations.source"),
    "a command of features imports another": ("features/rank/job.py", "import actlab.features.probe.job"),
    "features imports activations": ("features/rank/source.py", "import actlab.activations.source"),
    "a command's compute imports its sink": ("features/encode/compute.py", "import actlab.features.encode.sink"),
    "a config of features imports numpy": ("features/datasets/config.py", "import numpy"),
    "ground imports torch": ("ground/seeds.py", "import torch"),
    "a config imports numpy": ("activations/config.py", "import numpy"),
    "a module stands outside the floors": ("stray.py", ""),
    "a module stands outside the pipeline's parts": ("activations/stray.py", ""),
    "a module stands outside a command's parts": ("features/probe/stray.py", ""),
    "weights imports features": ("weights/job.py", "import actlab.features.split.job"),
    "compute of weights imports its sink": ("weights/compute/judge.py", "import actlab.weights.sink"),
    "a config of weights imports numpy": ("weights/config/networks.py", "import numpy"),
    "a module stands outside the parts of weights": ("weights/stray.py", ""),
    "a command stands outside features": ("features/stray.py", ""),
    "text imports weights": ("text/words.py", "import actlab.weights.job"),
    "a command of text imports another": ("text/refine/job.py", "import actlab.text.tokenize.job"),
    "grammars import windows": ("text/templates/plan.py", "import actlab.text.windows"),
    "a config of text imports numpy": ("text/refine/config.py", "import numpy"),
    "a module stands outside the parts of text": ("text/stray.py", ""),
}


def lint_imports(source: Path) -> bool:
    """Tell whether the command finds all contracts kept."""
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--config", ROOT / ".importlinter", "--no-cache"],
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"},
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    return done.returncode == 0


def test_the_command_finds_the_contracts_kept_and_one_in_a_file_broken(tmp_path):
    shutil.copytree(ROOT / "src" / "actlab", tmp_path / "actlab")
    assert lint_imports(tmp_path)
    where, line = VIOLATIONS["ground imports torch"]
    with (tmp_path / "actlab" / where).open("a") as file:
        file.write(f"\n{line}\n")
    assert not lint_imports(tmp_path)


@pytest.fixture(scope="module")
def imports():
    """Who imports whom in the sources, as the command reads it."""
    spec = importlib.util.find_spec("actlab")
    assert spec.submodule_search_locations == [str(ROOT / "src" / "actlab")]
    return grimp.build_graph("actlab", include_external_packages=True, cache_dir=None)


@pytest.mark.parametrize("name", [None, *VIOLATIONS])
def test_each_import_contract_breaks_when_it_is_broken(name, imports):
    graph = copy.deepcopy(imports)
    if name is not None:
        where, line = VIOLATIONS[name]
        module = ".".join(("actlab", *Path(where).with_suffix("").parts))
        assert (module in graph.modules) is bool(line)
        graph.add_module(module)
        if line:
            imported = line.removeprefix("import ")
            assert imported in graph.modules
            graph.add_import(importer=module, imported=imported, line_number=1, line_contents=line)
    importlinter.configuration.configure()
    settings.configure(GRAPH_BUILDER=SimpleNamespace(build=lambda **_: graph))
    kept = use_cases.lint_imports(
        config_filename=str(ROOT / ".importlinter"), cache_dir=None, is_debug_mode=True, no_logo=True
    )
    assert kept is (name is None)


def test_the_commands_page_is_what_help_prints(tmp_path):
    script = ROOT / "scripts" / "commands_page.py"
    subprocess.run([sys.executable, script, tmp_path / "commands.md"], check=True)
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert page == (tmp_path / "commands.md").read_text(encoding="utf-8"), "run: make docs"


def test_the_stub_of_the_python_api_is_what_the_code_says(tmp_path):
    subprocess.run([sys.executable, ROOT / "scripts" / "api_stub.py", tmp_path / "stub.pyi"], check=True)
    stub = (ROOT / "src" / "actlab" / "__init__.pyi").read_text(encoding="utf-8")
    assert stub == (tmp_path / "stub.pyi").read_text(encoding="utf-8"), "run: make docs"


def table_of(page: str, heading: str) -> list[str]:
    """Return the first column of the table under a heading."""
    section = page.split(f"### {heading}\n")[1].split("\n#")[0]
    return re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE)


def test_the_formats_page_lists_the_fields_that_are_written(llama, dataset, tmp_path):
    import actlab

    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (dump,) = actlab.extract_activations(model=llama, dataset=dataset, output=tmp_path / "out")
    metadata = json.loads((dump.path / "EM" / "metadata.json").read_text())
    assert table_of(page, "`metadata.json`") == list(metadata)
    assert list(metadata)[: len(SEED_KEYS)] == list(SEED_KEYS)
    assert table_of(page, "`examples.parquet`") == EXAMPLES_SCHEMA.names
    manifest = json.loads((dump.path / "manifest.json").read_text())
    assert table_of(page, "`manifest.json`") == list(manifest)


def test_the_formats_page_lists_what_the_commands_of_features_write(llama, tmp_path):
    import numpy as np

    import actlab
    from tests.fabricated import write_folder
    from tests.made_saes import random_weights, write_gemma_scope
    from tests.test_encode import SENTENCES, write_csv

    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    sentences = write_csv(tmp_path / "s.csv", SENTENCES)
    sae = write_gemma_scope(tmp_path / "saes", 1, 10, random_weights("jumprelu"))
    actlab.compute_features(input=sentences, sae=sae, model=llama, output=tmp_path / "features", l0_check="off")
    with np.load(tmp_path / "features" / "sentence_000001.npz") as file:
        assert table_of(page, "`sentence_000001.npz`") == file.files
    folder = write_folder(tmp_path / "in", 40)
    split = actlab.make_split(input=folder, output=tmp_path / "splits.json").path
    assert table_of(page, "`splits.json`") == list(json.loads(split.read_text()))
    ranking = actlab.rank_features(input=folder, split=split, output=tmp_path / "ranking", plots=False).path
    header = (ranking / "ranked_features.csv").read_text().splitlines()[0].split(",")
    assert table_of(page, "`ranked_features.csv`") == header
    keys = set()
    settings = {"input": folder, "groups": True, "rows": "all", "split": split}
    for number, (normalize, chosen) in enumerate(
        [
            ("standardize", {"strategy": "hidden-to-concept", "layer": 1}),
            ("minmax", {"strategy": "hidden-to-feature", "target_layer": 1, "target_feature": 3}),
            ("none", {"strategy": "feature-to-concept", "target_layer": 1, "target_features": "3,4"}),
        ]
    ):
        output = tmp_path / f"{number}.npz"
        actlab.generate_datasets(output=output, normalize=normalize, **settings, **chosen)
        with np.load(output) as file:
            keys |= set(file.files)
    assert set(table_of(page, "`meta_*` and `norm_*`")) == keys - {"X", "y"}


def test_the_formats_page_lists_the_tables_of_a_dataset_of_weights():
    from actlab.formats.weights.tables import ATTEMPTS, RECORDS, STORE

    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    for name, schema in STORE.items():
        assert table_of(page, f"`store/{name}`") == schema.names
    assert table_of(page, "`modification` and `classification`") == RECORDS.names
    assert table_of(page, "`attempts.parquet`") == ATTEMPTS.names


def test_the_formats_page_lists_what_the_commands_of_text_write(tmp_path):
    import pyarrow.parquet as pq

    from tests.test_text_inspect import make_chain

    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    made = make_chain(tmp_path)
    metadata = {name: list(json.loads((folder / "metadata.json").read_text())) for name, folder in made.items()}
    assert table_of(page, "Metadata of generate-text") == metadata["generated"]
    assert set(table_of(page, "Metadata of refine-text")) == set(metadata["refined"])
    assert table_of(page, "Metadata of tokenize-text") == metadata["tokens"]
    assert table_of(page, "Metadata of train-gpt") == metadata["gpt"]
    refined = made["refined"]
    for name in ("documents.jsonl", "rejects.jsonl"):
        assert table_of(page, f"`{name}`") == list(json.loads((refined / name).read_text().splitlines()[0]))
    assert table_of(page, "`quality.parquet`") == pq.read_schema(refined / "quality.parquet").names
    assert table_of(page, "`report.json`") == list(json.loads((refined / "report.json").read_text()))


def test_the_formats_page_tells_the_syntax_of_grammars():
    from actlab.ground.errors import DataError
    from actlab.text.templates.engine import generate
    from actlab.text.templates.modifiers import MODIFIERS
    from actlab.text.templates.read import parse_grammar

    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    with pytest.raises(DataError) as refused:
        parse_grammar("nonsense: 1", where="here")
    sections = table_of(page, "Sections of a grammar")
    assert refused.value.hint == f"the sections are {', '.join(sections)}"
    about = page.split("## Grammars\n")[1]
    assert set(re.findall(r"`\.(\w+)` \(", about)) == set(MODIFIERS)
    grammar = parse_grammar(about.split("```yaml\n")[1].split("```")[0], where="the page")
    assert "gives the horse" in generate(grammar, seed=0, k=0).text


def test_the_pages_name_no_file_that_is_not_there():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_pages_commands_name_no_file_of_the_repository_that_is_not_there():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for named in re.findall(r"\b((?:configs|scripts|Datasets)/[\w*/-]+\.\w+)", page.read_text(encoding="utf-8")):
            assert list(ROOT.glob(named)), f"{page.name} names {named}"


def commands_of(page: str, heading: str) -> list[list[str]]:
    """Return the arguments of each command in the blocks of a section, in their order."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = "".join(re.findall(r"^```\w*\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    return [
        shlex.split(line.removeprefix("$ "))[1:] for line in blocks.splitlines() if re.match(r"(\$ )?actlab ", line)
    ]


CHAIN = (
    "train-sae",
    "compute-features",
    "split",
    "rank-features",
    "generate-datasets",
    "train-probe",
    "sweep-datasets",
)


@pytest.mark.parametrize(
    "names", [("split", "generate-datasets", "sweep-datasets"), pytest.param(CHAIN[2:], marks=pytest.mark.slow)]
)
def test_the_readmes_chain_runs_from_the_features_of_its_own_sentences_on(names, tmp_path):
    import numpy as np

    from tests.command_line import run
    from tests.fabricated import arrays_of

    (tmp_path / "Datasets").symlink_to(ROOT / "Datasets")
    (tmp_path / "Features" / "caring").mkdir(parents=True)
    commands = commands_of((ROOT / "README.md").read_text(encoding="utf-8"), "From sentences to a probe")
    layers = [int(layer) for layer in commands[0][commands[0].index("--layers") + 1].split(",")]
    with (ROOT / "Datasets" / "Sentences" / "caring.csv").open(encoding="utf-8", newline="") as file:
        for index, row in enumerate(csv.DictReader(file)):
            label = float(row["concept_strength_label"])
            arrays = arrays_of(index, n_rows=2, layers=layers, width=4, n_features=12, label=label)
            arrays["activations"][:, :, 0] = label  # for the ranking to find
            arrays["sentence"] = np.array(row["sentence"])
            np.savez(tmp_path / "Features" / "caring" / f"sentence_{index + 1:06d}.npz", **arrays)
    assert tuple(name for name, *_ in commands) == CHAIN, "the first two need a model"
    for arguments in commands:
        if arguments[0] in names:
            done = run(*arguments, cwd=tmp_path)
            assert done.returncode == 0, f"actlab {shlex.join(arguments)}\n{done.stderr}"
    swept = sorted(path.stem for path in (tmp_path / "Features").glob("*.npz"))
    assert swept == ["caring_h1_3_5_to_concept", *(f"caring_h{k}_to_concept" for k in layers)]


def test_every_library_that_is_imported_is_declared_with_a_floor_and_pinned_above_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = [*project["dependencies"], *project["optional-dependencies"]["bnb"]]
    floors = {name.lower().replace("_", "-"): floor for name, _, floor in (one.partition(">=") for one in ranges)}
    assert all(floors.values())
    imported = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else name.name).partition(".")[0]
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    sources = {name: found for name, found in importlib.metadata.packages_distributions().items() if name in imported}
    assert {"torch", "click", "transformers", "yaml", "sklearn"} <= sources.keys()
    for name, found in sources.items():
        assert name == "actlab" or {one.lower().replace("_", "-") for one in found} & floors.keys(), name
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    for name, pin in pinned.items():
        floor = floors.get(name.lower().replace("_", "-"), "0")
        assert [int(part) for part in floor.split(".")] <= [int(part) for part in pin.split(".")], name


def test_what_should_stay_small_in_the_sources_is_small():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "count.py", "--total"], check=True, capture_output=True, text=True
    )
    counts = json.loads(done.stdout)
    assert counts["long_functions"] == 0, "a function has more than 60 lines: python scripts/count.py"
    assert counts["any"] <= 619 // 3, "give it a type"
    assert (counts["type_ignores"] <= 7, counts["casts"] <= 2) == (True, True)
    assert counts["planned_classes"] == 0, "what a job would take is its Cost"
