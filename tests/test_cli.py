"""The command line as a user meets it: light, two lines for an error, honest exit codes."""

import importlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import actlab
from actlab.cli.main import COMMANDS
from actlab.cli.main import actlab as command_line
from tests.command_line import actlab_command, fails_in_two_lines, run, run_apart, start_forked
from tests.conftest import make_rows
from tests.folders import hashes

HEAVY = ("torch", "numpy", "transformers", "pandas", "pyarrow")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--help"], 0), (["extract-activations", "--help"], 0), (["extract-activations", "--laers", "3"], 2), ([], 2)],
)
def test_help_and_a_wrong_flag_are_answered_without_heavy_imports(arguments, status):
    code = (
        "import sys\nfrom actlab.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as stop:\n    print('STATUS', stop.code)\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    assert f"STATUS {status}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "configs"),
    [
        (["--help"], []),
        (["--bogus"], []),
        (["bogus"], []),
        (["extract-activations", "--bogus"], ["actlab.activations"]),
        (["run-data-gen", "--bogus"], ["actlab.weights"]),
        (["tokenize-text", "--bogus"], ["actlab.text.tokenize"]),
    ],
)
def test_an_answer_that_does_no_work_imports_no_other_command_and_reads_no_source(arguments, configs):
    code = (
        "import inspect, sys\ninspect.getsource = None\nfrom actlab.cli.main import COMMANDS, main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as stop:\n    print()\n"
        "print(*(name for name in sys.modules if name.endswith('.config') or name == 'logging'))\n"
        "print(*(name for name in COMMANDS if 'actlab.cli.' + name.replace('-', '_') in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, commands = done.stdout.splitlines()[-2:]
    assert imported.split() == [f"{package}.config" for package in configs]
    assert commands.split() == [one for one in arguments if not one.startswith("-") and configs]


def test_each_command_is_in_the_file_of_its_name():
    for name, about in COMMANDS.items():
        command = importlib.import_module(f"actlab.cli.{name.replace('-', '_')}").command
        assert command_line.commands[name].whole is command
        assert command.help.startswith(about)


def test_importing_actlab_is_light_and_its_functions_are_there():
    code = f"import sys, actlab\nassert not [n for n in {HEAVY!r} if n in sys.modules]\nprint(sorted(actlab.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import actlab

    for name in actlab.__all__:
        assert getattr(actlab, name) is not None
        assert name in done.stdout
    with pytest.raises(AttributeError):
        actlab.no_such_thing  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (["extract-activations", "--laers", "3"], "No such option '--laers'", "did you mean '--layers'?"),
        (["extrct-activations"], "No such command", "did you mean 'extract-activations'?"),
        (["extract-activations", "--layers", "a-b"], "does not parse", '"0-10:2"'),
        (["extract-activations", "--position", "first"], "position 'first' is not known", "prompt-last"),
        (["extract-activations", "--splits", "../x"], "'../x' cannot be the name of a split", "one folder"),
        (["extract-activations", "--splits", "EM,EM"], "names a split twice", "once"),
        (["extract-activations", "--shard-size", "0"], "--shard-size 0 is too small", "1 or more"),
        (["extract-activations", "--shard-size", "x"], "'x' is not a valid integer", "--help"),
        (["extract-activations", "--dtype", "int8"], "'int8' is not one of", "--help"),
        (["extract-activations", "--part", "4/3"], "--part '4/3'", "i/n"),
        (["extract-activations", "--dataset", "nowhere.jsonl"], "there is no dataset nowhere.jsonl", "--dataset"),
        (["extract-activations", "--config-path", "nowhere.yaml"], "cannot read nowhere.yaml", "--config-path"),
        (["show"], "Missing argument", "--help"),
        (["extract-activations", "--splits", "EM,units"], "'units' cannot be the name of a split", "itself"),
        (["extract-activations", "--output", ""], "output is empty", "default"),
        (["extract-activations", "--part", ""], "part is empty", "default"),
        (["extract-activations", "--config-path", ""], "cannot read", "--config-path"),
        (["extract-activations", "--preview", "9" * 25], "too large", "at most"),
    ],
)
def test_wrong_usage_is_two_lines_and_exit_2(arguments, says, hint, tmp_path):
    fails_in_two_lines(run(*arguments, cwd=tmp_path), 2, says, hint)


@pytest.mark.parametrize(
    ("model", "says"),
    [("./no-such-model", "there is no folder ./no-such-model"), ("no-such-hub-model", "no-such-hub-model")],
)
def test_an_unknown_model_is_two_lines_and_exit_1(model, says, dataset, tmp_path):
    fails_in_two_lines(run("extract-activations", "--model", model, "--dataset", dataset), 1, says)


def test_a_layer_that_the_model_lacks_is_named(llama, dataset, tmp_path):
    done = run("extract-activations", "--model", llama, "--dataset", dataset, "--output", tmp_path, "--layers", "0,40")
    fails_in_two_lines(done, 2, "--layers '0,40' names layer 40, but the model has 4", "use 0 to 3")


def test_an_output_that_cannot_be_written_is_two_lines(llama, dataset, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = run("extract-activations", "--model", llama, "--dataset", dataset, "--output", tmp_path / "file" / "out")
    fails_in_two_lines(done, 1, "cannot write", "--output")


def test_a_file_size_limit_is_two_lines_and_can_be_resumed(llama, dataset, tmp_path):
    arguments = ["extract-activations", "--model", llama, "--dataset", dataset, "--output", tmp_path / "out"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        done = run(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    fails_in_two_lines(done, 1, "File too large", "ulimit")
    assert not (tmp_path / "out" / "tiny-llama" / "data").exists()
    assert run(*arguments).returncode == 0
    assert run("verify", tmp_path / "out" / "tiny-llama" / "data").returncode == 0


def test_stdout_is_the_datasets_path_and_a_second_run_repeats_it(llama, dataset, tmp_path):
    arguments = ["extract-activations", "--model", llama, "--dataset", dataset, "--output", tmp_path / "out"]
    first, second = run(*arguments), run(*arguments)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == second.stdout == f"{tmp_path}/out/tiny-llama/data\n"


@pytest.mark.parametrize("n_letters", [1_000_000, pytest.param(4_000_000, marks=pytest.mark.slow)])
def test_dropped_records_are_counted_listed_and_in_the_exit_status(n_letters, llama, tmp_path):
    good = json.dumps(make_rows(1)[0]).encode()
    lines = [
        good,
        good[: len(good) // 2],
        b'{"prompt": "\xff\xfe", "EM": "x"}',
        b'{"EM": "no prompt"}',
        b'{"prompt": "p", "EM": 3}',
        b"[1, 2]",
        b'{"prompt": "p", "EM": "\\ud800"}',
        b"",
        b'{"prompt": "' + b"x" * n_letters + b'", "EM": "short", "Neutral": ""}',
    ]
    source = tmp_path / "bad.jsonl"
    source.write_bytes(b"\n".join(lines) + b"\n")
    arguments = ["extract-activations", "--model", llama, "--dataset", source, "--output", tmp_path / "out"]
    done = run(*arguments)
    assert done.returncode == 3
    folder = Path(done.stdout.strip())
    listed = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    assert {(one["line"], one["reason"]) for one in listed} == {
        (2, "bad JSON"),
        (3, "invalid UTF-8"),
        (4, "no prompt"),
        (5, "the response is not text"),
        (6, "not a JSON object"),
        (7, "invalid Unicode"),
    }
    metadata = json.loads((folder / "EM" / "metadata.json").read_text())
    assert metadata["total_examples"] == 2, "the good row, and the huge prompt cut from its start"
    assert metadata["truncated_examples"] == 1
    assert run(*arguments).returncode == 3, "a second run repeats the status"
    assert run("seal", folder).returncode == 3
    assert run("verify", folder).returncode == 0
    fails_in_two_lines(run(*arguments[:-1], tmp_path / "strict", "--on-bad", "error"), 1, "line 2: bad JSON")


def test_an_empty_file_and_one_without_the_splits_are_two_lines(llama, tmp_path, write_rows):
    (tmp_path / "empty.jsonl").touch()
    empty = run("extract-activations", "--model", llama, "--dataset", tmp_path / "empty.jsonl")
    fails_in_two_lines(empty, 1, "empty.jsonl is empty")
    other = write_rows([{"prompt": "p", "good": "a", "bad": "b"}])
    done = run("extract-activations", "--model", llama, "--dataset", other)
    fails_in_two_lines(done, 1, "no row with a response", "--splits good,bad")


def test_a_dataset_of_which_nothing_is_left_is_not_sealed_and_costs_no_other(llama, dataset, tmp_path, write_rows):
    rows = [{"prompt": "p", "EM": "word " * 40, "Neutral": "word " * 40}] * 3
    none, some = write_rows(rows, "none.jsonl"), write_rows([*rows, {"prompt": "p", "EM": "a"}], "some.jsonl")
    arguments = ["extract-activations", "--model", llama, "--output", tmp_path / "out", "--layers", "0", "--quiet"]
    short = ["--max-length", 20, "--dataset", none]
    folder = tmp_path / "out" / "tiny-llama"
    says, hint = "none would be empty: every record was dropped (the response alone is too long: 6)", "--max-length"
    both = run(*arguments, *short, "--dataset", some)
    assert (both.returncode, both.stdout) == (1, f"{folder / 'some'}\n"), "what was made is said all the same"
    told, error, mend = both.stderr.splitlines()
    assert "some: 6 records dropped" in told
    assert says in error
    assert hint in mend
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["none.partial", "some"]
    acts = {split: actlab.open_activations(folder / "some", split) for split in ("EM", "Neutral")}
    assert (len(acts["EM"]), len(acts["Neutral"])) == (1, 0), "a split may be empty"
    fails_in_two_lines(run(*arguments, *short), 1, says, hint)
    fails_in_two_lines(run("seal", folder / "none"), 1, says, hint)
    assert len((folder / "none.partial" / "dropped.jsonl").read_text().splitlines()) == 6
    mended = run(*arguments, *short, "--truncate", "left")
    assert (mended.returncode, mended.stdout) == (0, f"{folder / 'none'}\n")
    assert run("verify", folder / "none").returncode == 0


def test_a_config_file_stands_under_the_flags(llama, dataset, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(f"model: {llama}\ndataset: [{dataset}]\nlayers: [0, -1]\ndtype: float32\nsplits: EM\n")
    done = run("extract-activations", "--config-path", config, "--output", tmp_path / "out", "--dtype", "bfloat16")
    assert done.returncode == 0, done.stderr
    metadata = json.loads(Path(done.stdout.strip(), "EM", "metadata.json").read_text())
    assert (metadata["layers"], metadata["dtype"]) == ([0, 3], "bfloat16")
    config.write_text("layrs: 3\n")
    fails_in_two_lines(run("extract-activations", "--config-path", config), 2, "'layrs'", "did you mean 'layers'?")
    config.write_text("batch_size: many\n")
    done = run("extract-activations", "--config-path", config)
    fails_in_two_lines(done, 2, "batch_size takes a whole number, not 'many'")
    for twice in ("layers: all\nlayers: '0'\n", "batch-size: 8\nbatch_size: 4\n"):
        config.write_text(twice)
        fails_in_two_lines(run("extract-activations", "--config-path", config), 2, "twice", "keep one")
    for odd in ("5\n", "[a, b]\n", "text\n"):
        config.write_text(odd)
        fails_in_two_lines(run("extract-activations", "--config-path", config), 2, "not settings")
    config.write_text("a: [\n")
    fails_in_two_lines(run("extract-activations", "--config-path", config), 2, "is not YAML")


def test_dry_run_and_preview_write_nothing(llama, dataset, tmp_path):
    arguments = ["extract-activations", "--model", llama, "--dataset", dataset, "--output", tmp_path / "out"]
    plan = run(*arguments, "--dry-run", "--json")
    (planned,) = json.loads(plan.stdout)
    assert (planned["n_lines"], planned["n_examples"], planned["n_units"]) == (20, 40, 1)
    assert planned["bytes_to_write"] == 40 * 4 * 32 * 2
    preview = run(*arguments, "--preview", "2", "--position", "prompt-last")
    row = make_rows(1)[0]
    assert f"<s>{row['prompt'][:-1]}⟦?⟧\n{row['EM']}" in preview.stdout
    assert preview.stdout.count("--- data line") == 2
    assert not (tmp_path / "out").exists()


def test_show_prints_sizes_and_norms(llama, dataset, tmp_path):
    import torch

    import actlab

    (dump,) = actlab.extract_activations(model=llama, dataset=dataset, output=tmp_path / "out", dtype="float32")
    shown = json.loads(run("show", dump.path, "--json").stdout)
    rows = torch.cat(list(actlab.load_activations(dump.path / "EM", 2)))
    assert shown["splits"]["EM"]["rows"] == 20
    assert shown["splits"]["EM"]["layers"]["2"]["norm_mean"] == pytest.approx(rows.norm(dim=1).mean().item())
    assert shown["splits"]["EM"]["layers"]["2"]["max_abs"] == pytest.approx(rows.abs().max().item())
    text = run("show", dump.path).stdout
    assert "tiny-llama (4 layers, width 32)" in text
    assert str(dump.path) in run("show", tmp_path / "out").stdout
    fails_in_two_lines(run("show", tmp_path), 1, "no finished activations")


def damage_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def empty_bin(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").touch()


def wrong_config(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"hidden_size": 32', '"hidden_size": "abc"'))


def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def no_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize("damage", [damage_weights, empty_bin, wrong_config, no_tokenizer, no_config])
def test_a_damaged_model_folder_is_two_lines_and_exit_1(damage, llama, dataset, tmp_path):
    shutil.copytree(llama, tmp_path / "damaged")
    damage(tmp_path / "damaged")
    done = run("extract-activations", "--model", tmp_path / "damaged", "--dataset", dataset, "--output", tmp_path)
    fails_in_two_lines(done, 1, "damaged")


def test_no_command_prints_the_help_and_a_full_stdout_is_said():
    done = run_apart()
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: ")
    assert done.stderr.count("\n") > 10
    with open("/dev/full", "w") as full:
        done = subprocess.run(actlab_command("--version"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_dataset_may_be_named_from_inside_itself(llama, dataset, tmp_path):
    done = run("extract-activations", "--model", llama, "--dataset", dataset, "--output", tmp_path / "out")
    folder = Path(done.stdout.strip())
    for command in ("show", "verify", "seal"):
        assert run(command, ".", cwd=folder).returncode == 0
    assert run("verify", ".", cwd=folder / "EM").returncode == 0
    fails_in_two_lines(run("seal", "/"), 1, "no dataset")
    for command in ("show", "verify"):
        fails_in_two_lines(run(command, "/proc/self"), 1, "no finished activations")
    fails_in_two_lines(run("show", "x" * 300), 1, "")


def test_sigterm_ends_with_130_and_the_run_can_be_resumed(llama, tmp_path, write_rows):
    source = write_rows(make_rows(300))
    arguments = ["extract-activations", "--model", llama, "--dataset", source, "--shard-size", "4"]
    whole = run(*arguments, "--output", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    partial = tmp_path / "out" / "tiny-llama" / "data.partial" / "EM" / "layer_00"
    stderr = tmp_path / "stderr"
    process = start_forked(*arguments, "--output", tmp_path / "out", stdout=tmp_path / "stdout", stderr=stderr)
    while not partial.exists() and process.is_alive():
        time.sleep(0.002)
    process.terminate()  # by SIGTERM
    process.join(60)
    assert process.exitcode == 130, stderr.read_text()
    assert "Error: interrupted" in stderr.read_text()
    assert run(*arguments, "--output", tmp_path / "out").returncode == 0
    assert hashes(tmp_path / "out" / "tiny-llama" / "data") == hashes(tmp_path / "whole" / "tiny-llama" / "data")


@pytest.mark.slow
def test_killed_at_thirty_random_moments_and_run_again_it_gives_the_same_bytes(llama, tmp_path, write_rows):
    source = write_rows(make_rows(1600))
    arguments = ["extract-activations", "--model", llama, "--dataset", source, "--shard-size", "16"]
    start = time.monotonic()
    assert run(*arguments, "--output", tmp_path / "whole").returncode == 0
    length_s = time.monotonic() - start
    expected = hashes(tmp_path / "whole" / "tiny-llama" / "data")
    draw = random.Random(0)
    n_killed = 0
    for moment in range(30):
        out = tmp_path / f"out-{moment}"
        process = subprocess.Popen(
            actlab_command(*arguments, "--output", out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=draw.uniform(0.3, 1.0) * length_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            n_killed += 1
        final = out / "tiny-llama" / "data"
        assert not final.exists() or hashes(final) == expected
        assert run(*arguments, "--output", out).returncode == 0
        assert hashes(final) == expected
    assert n_killed >= 20, "most runs ended before they were killed"


def test_two_processes_at_once_are_refused_in_two_lines(llama, dataset, tmp_path):
    (tmp_path / "out" / "tiny-llama").mkdir(parents=True)
    path = tmp_path / "out" / "tiny-llama" / "data.partial.lock"
    holds = "import pathlib, sys; from actlab.ground.storage import Lock; lock = Lock(pathlib.Path(sys.argv[1]))"
    holds += "; print(lock.try_acquire(), flush=True); sys.stdin.read()"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", holds, path], **streams) as other:
        assert other.stdout.readline() == "True\n"
        done = run("extract-activations", "--model", llama, "--dataset", dataset, "--output", tmp_path / "out")
        other.communicate()
    assert other.returncode == 0
    fails_in_two_lines(done, 1, "another run is at work", "wait for it")


def test_quiet_says_nothing_and_python_m_works(llama, dataset, tmp_path):
    done = run_apart(
        "extract-activations", "--model", llama, "--dataset", dataset, "--output", tmp_path / "o", "--quiet"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert os.path.isdir(done.stdout.strip())
    assert run_apart("--version").stdout.startswith("actlab ")


def offered(words: str, monkeypatch, *, cword: str | None = None, shell: str = "bash") -> list[str]:
    """Return what the shell is offered where its last word is still being typed, by kind and value."""
    monkeypatch.setenv("_ACTLAB_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", cword or str(len(words.split(" ")) - 1))
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip().splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("actlab ext", ["plain,extract-activations"]),
        ("actlab s", ["plain,split", "plain,sweep-datasets", "plain,score-interpreter", "plain,show", "plain,seal"]),
        ("actlab extract-activations --chat", ["plain,--chat-template"]),
        ("actlab sweep-datasets --input d --strategy hidden", ["plain,hidden-to-feature", "plain,hidden-to-concept"]),
        ("actlab extract-activations --dataset Data", ["file,Data"]),
        ("actlab extract-activations --config-path c", ["file,c"]),
        ("actlab verify Datasets/Act", ["file,Datasets/Act"]),
        ("actlab no-such-command --a", []),
    ],
)
def test_the_shell_is_offered_commands_options_choices_and_files(words, expected, monkeypatch):
    assert offered(words, monkeypatch) == expected


def test_zsh_and_fish_are_offered_commands_with_their_help(monkeypatch):
    assert offered("actlab ver", monkeypatch, shell="zsh")[:2] == ["plain", "verify"]
    assert offered("actlab ver", monkeypatch, cword="ver", shell="fish")[0].startswith("plain,verify\tCheck that")


def test_bash_completes_with_the_script_that_it_is_given(tmp_path, monkeypatch):
    (tmp_path / "actlab").write_text(f'#!/bin/sh\nexec {sys.executable} -m actlab "$@"\n')
    (tmp_path / "actlab").chmod(0o755)
    monkeypatch.setenv("_ACTLAB_COMPLETE", "bash_source")
    calls = """
        complete -p actlab
        COMP_WORDS=(actlab extract-activations --dtype fl) COMP_CWORD=3
        _actlab_completion actlab
        echo "${COMPREPLY[@]}"
    """
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", run().stdout + calls], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["complete -o nosort -F _actlab_completion actlab", "float16 float32"]
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_their_script(shell, monkeypatch):
    monkeypatch.setenv("_ACTLAB_COMPLETE", f"{shell}_source")
    done = run()
    assert done.returncode == 0
    assert f"_ACTLAB_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize(
    ("instruction", "says"),
    [
        ("tcsh_source", "cannot be 'tcsh_source'"),
        ("bash", "cannot be 'bash'"),
        ("bash_complete", "is set without COMP_WORDS"),
    ],
)
def test_a_completion_that_cannot_be_is_two_lines_and_exit_2(instruction, says, monkeypatch):
    monkeypatch.setenv("_ACTLAB_COMPLETE", instruction)
    fails_in_two_lines(run(), 2, says, "bash_source")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("place", ["x", "", "-1", "\u00b2", "9" * 5000])
def test_a_word_that_is_no_number_is_two_lines_and_exit_2(place, shell, monkeypatch):
    monkeypatch.setenv("_ACTLAB_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "actlab 'unclosed")
    monkeypatch.setenv("COMP_CWORD", place)
    fails_in_two_lines(run(), 2, "COMP_CWORD cannot be", f"{shell}_source")


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (["show", "a\0b"], "dir holds a character that no path", "give another"),
        (["show", ""], "dir is empty", "give another"),
        (
            ["generate-text", "x", "--temperature", "nan"],
            "--temperature nan is no finite number",
            "give a finite number",
        ),
        (["rank-features", "--max-fpr", "-0.1"], "--max-fpr -0.1 is no share", "0 to 1"),
        (["rank-features", "--max-fpr", "1.01"], "--max-fpr 1.01 is no share", "0 to 1"),
        (["rank-features", "--min-tpr", "-1"], "--min-tpr -1.0 is no share", "0 to 1"),
        (["rank-features", "--min-tpr", "2"], "--min-tpr 2.0 is no share", "0 to 1"),
        (["rank-features", "--min-pearson", "-1.5"], "--min-pearson -1.5 is no correlation", "-1 to 1"),
        (["rank-features", "--min-pearson", "40"], "--min-pearson 40.0 is no correlation", "-1 to 1"),
        (["train-probe", "--input", "."], "is a folder", "name the file: "),
    ],
)
def test_the_hint_says_what_to_give(arguments, says, hint, tmp_path):
    if arguments[0] in ("rank-features", "train-probe"):
        arguments = [*arguments, "--output", "out"]
    if arguments[0] == "rank-features":
        arguments = [*arguments, "--input", "in"]
    fails_in_two_lines(run(*arguments, cwd=tmp_path), 1 if arguments[0] == "train-probe" else 2, says, hint)
