"""The text commands, killed twenty times in a row, come to what an undisturbed run makes."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.command_line import actlab_command, kill_often
from tests.conformance_server import MODEL, serve
from tests.folders import hashes


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    return finished(
        "generate-text", "simple recipes", "--tokens", 150_000, output=tmp_path_factory.mktemp("t") / "text"
    )


@pytest.fixture(scope="module")
def tokens(text, tmp_path_factory) -> Path:
    return finished("tokenize-text", text, output=tmp_path_factory.mktemp("t") / "tokens")


def finished(*arguments, output: Path) -> Path:
    subprocess.run(actlab_command(*arguments, "--output", output, "--quiet"), check=True, timeout=300)
    return output


def killed_in_between(*arguments, output: Path, whole: Path, took_s: float) -> None:
    """Kill a command at moments spread over all of its run; whole results are compared with the undisturbed one."""

    def compare() -> None:
        assert hashes(output) == hashes(whole)
        shutil.rmtree(output)

    kill_often(actlab_command(*arguments, "--output", output, "--quiet"), (0.2 * took_s, took_s), compare)
    finished(*arguments, output=output)
    assert hashes(output) == hashes(whole)
    left = [path.name for path in output.parent.iterdir() if "partial" in path.name or "checkpoints" in path.name]
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("step", ["generate", "refine", "tokenize", "train"])
def test_killed_twenty_times_a_step_gives_the_same_bytes(step, text, tokens, tmp_path):
    arguments = {
        "generate": ["generate-text", "simple recipes", "--tokens", 300_000],
        "refine": ["refine-text", text, "--tokens", 60_000],
        "tokenize": ["tokenize-text", text],
        "train": ["train-gpt", tokens, "--steps", 60, "--checkpoint-every", 5, "--eval-every", 20],
    }[step]
    start = time.monotonic()
    whole = finished(*arguments, output=tmp_path / "whole")
    took_s = time.monotonic() - start
    killed_in_between(*arguments, output=tmp_path / "out", whole=whole, took_s=took_s)


@pytest.mark.slow
def test_killed_twenty_times_a_server_run_gives_the_same_bytes_and_asks_for_nothing_twice(tmp_path):
    with serve() as there:
        arguments = ["generate-text", "simple recipes", "--method", "ollama", "--model", MODEL, "--base-url", there.url]
        arguments += ["--tokens", 4000, "--concurrency", 2]
        start = time.monotonic()
        whole = finished(*arguments, output=tmp_path / "whole")
        took_s = time.monotonic() - start
        killed_in_between(*arguments, output=tmp_path / "out", whole=whole, took_s=took_s)
