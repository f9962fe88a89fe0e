"""The demo runs the whole chain, tells what each step came to, and goes on where it was stopped."""

import json
import subprocess
from pathlib import Path

import pytest

from actlab.cli import demo
from actlab.ground.errors import StorageError
from tests.command_line import actlab_command, run
from tests.folders import hashes

ROOT = Path(__file__).parent.parent


def ended_with(status: int):
    return lambda arguments, **_: subprocess.CompletedProcess(arguments, status)


@pytest.mark.parametrize(
    ("status", "error"),
    [(-2, KeyboardInterrupt), (130, KeyboardInterrupt), (-9, StorageError), (1, StorageError), (2, StorageError)],
)
def test_a_step_that_fails_ends_the_demo_and_says_how(monkeypatch, status, error):
    monkeypatch.setattr(subprocess, "run", ended_with(status))
    with pytest.raises(error) as stop:
        demo._run(demo.Step("tokens", ["tokenize-text", "x"]))
    if status == -9:
        assert "tokenize-text was ended by SIGKILL" in str(stop.value)


@pytest.mark.parametrize("status", [0, 3])
def test_a_step_whose_records_were_dropped_by_reason_is_no_failure(monkeypatch, status):
    monkeypatch.setattr(subprocess, "run", ended_with(status))
    demo._run(demo.Step("tokens", ["tokenize-text", "x"]))


def test_the_table_tells_counts_by_kinds_as_their_total(tmp_path):
    told = {"gpt": {"n_parameters": {"total": 7, "embeddings": 3}}, "tokens": {"n_tokens": {"train": 5, "val": 2}}}
    told["weights"] = {"n_examples": 3, "n_parameters": [689, 2017]}
    for name, metadata in told.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata.json").write_text(json.dumps(metadata))
    made = [demo.Step(name, [], str(tmp_path / name)) for name in told]
    lines = demo._table([demo.Done(step, 1.0) for step in made]).splitlines()
    assert lines[1].endswith("gpt, 7 parameters")
    assert lines[2].endswith("tokens, 7 tokens")
    assert lines[3].endswith("weights, 3 examples")
    assert lines[4].split() == ["all", "3.0", "s"]


def test_a_demo_elsewhere_and_one_that_is_too_small_are_refused(tmp_path):
    assert "run the demo in the folder" in run("demo", cwd=tmp_path).stderr
    assert "--tokens is at least" in run("demo", "--tokens", 10, cwd=ROOT).stderr


@pytest.mark.slow
def test_the_whole_chain_runs_and_a_second_demo_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ACTLAB_CACHE", str(tmp_path / "cache"))
    small = ["--tokens", 20_000, "--steps", 4, "--output", tmp_path / "demo"]
    command = actlab_command("demo", *small)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "the probe: test AUROC" in done.stdout
    before = hashes(tmp_path / "demo")
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert again.returncode == 0, again.stderr
    assert hashes(tmp_path / "demo") == before


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"test_roc_auc": None, "test_roc_auc_interval": None}, "lacks a class: nothing was found"),
        (
            {"test_roc_auc": 0.9, "test_roc_auc_interval": None, "no_intervals_because": "class 1 has 3 groups"},
            "test AUROC 0.90, without an interval: class 1 has 3 groups",
        ),
        ({"test_roc_auc": 0.7, "test_roc_auc_interval": [0.4, 0.8]}, "nothing was shown"),
    ],
)
def test_what_the_demo_says_of_its_probe_is_what_the_results_say(found, says, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(found))
    assert says in demo._probe_found(tmp_path)
