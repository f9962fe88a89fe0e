"""Run the command line, inside this process or as one of its own, and look at what a user would see."""

import contextlib
import logging
import multiprocessing
import multiprocessing.context
import os
import random
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from actlab.cli.main import main

UNSEEN_WARNINGS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def actlab_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "actlab", *map(str, arguments)]


def run_apart(*arguments: object, cwd: Path | None = None, **options) -> subprocess.CompletedProcess:
    """Run the command in a process of its own: for promises about the process itself."""
    return subprocess.run(
        actlab_command(*arguments), capture_output=True, text=True, cwd=cwd, check=False, timeout=120, **options
    )


def new_processes() -> multiprocessing.context.BaseContext:
    """Make processes that need not import torch again, where one can be forked."""
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def start_forked(*arguments: object, stdout: Path, stderr: Path) -> multiprocessing.process.BaseProcess:
    """Start the command in a process of its own that has imported torch, its streams in files."""
    process = new_processes().Process(target=_main_apart, args=(list(map(str, arguments)), stdout, stderr))
    process.start()
    return process


def _main_apart(arguments: list[str], stdout: Path, stderr: Path) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else a forked process says that it is one
    for path, descriptor, name in ((stdout, 1, "stdout"), (stderr, 2, "stderr")):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
        setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8", closefd=False))
    import torch

    torch.set_num_threads(1)  # those of another number are not forked
    with as_in_a_new_process():
        main(arguments)


def kill_often(command: list[str], longest_s: tuple[float, float], finished: Callable[[], None], n: int = 20) -> None:
    """Start a command until it was killed n times, each after a time within bounds; `finished` hears of early ends."""
    draw = random.Random(0)
    killed = 0
    while killed < n:
        process = subprocess.Popen(command, start_new_session=True)
        try:
            process.wait(timeout=draw.uniform(*longest_s))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        assert process.returncode == 0
        finished()


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run the command in this process, which has imported torch already, and give all back as it was.

    Its streams are true files, as `main` may ask for their descriptors. An exception that would end a
    process with a traceback is raised here.
    """
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        with stdout.open("w", encoding="utf-8") as out, stderr.open("w", encoding="utf-8") as error:
            with contextlib.chdir(cwd or "."), as_in_a_new_process():
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
                    status = status_of_main(list(map(str, arguments)))
        return subprocess.CompletedProcess(
            arguments, status, stdout.read_text(encoding="utf-8"), stderr.read_text(encoding="utf-8")
        )


def status_of_main(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    raise AssertionError("main ended without a status")


def to_stderr(message, category, filename, lineno, file=None, line=None) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


@contextlib.contextmanager
def as_in_a_new_process() -> Iterator[None]:
    """Lend `main` fresh logging, warnings that reach stderr, the signals and the environment."""
    root, ours = logging.getLogger(), logging.getLogger("actlab")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    root.handlers = []  # else logging.basicConfig leaves pytest's handlers to take the lines
    try:
        with mock.patch.dict(os.environ), warnings.catch_warnings():
            warnings.resetwarnings()
            for category in UNSEEN_WARNINGS:
                warnings.simplefilter("ignore", category)
            warnings.showwarning = to_stderr
            yield
    finally:
        root.handlers = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        for number, handler in signals.items():
            signal.signal(number, handler)


def fails_in_two_lines(done: subprocess.CompletedProcess, status: int, says: str, hint: str = "") -> None:
    lines = [line for line in done.stderr.splitlines() if not line.startswith("tiny-llama on")]
    assert done.returncode == status, done.stderr
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("Error: ")
    assert lines[1].startswith("Hint: ")
    assert says in lines[0]
    assert hint in lines[1]
    assert done.stdout == ""
