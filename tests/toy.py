"""A pipeline that makes a toy dataset, and what stops or delays it at any call into the operating system."""

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from actlab.ground.storage import Finish, NewFile, Plan, Staging, aside, files, lock, publish, stage, staging
from actlab.ground.units import Part


def memory() -> str | None:
    """Return a folder in memory, where thousands of small files cost no time; None where the system has none."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Killed(BaseException):
    """What an injected exit raises: nothing in the code may catch it."""


def kill():
    raise Killed


STEPS = ("replace", "fsync", "rename", "open", "link")


def stepping(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes the n-th call into the operating system the last one, or does something there.

    That is before or after it took effect.
    """

    def arm(step: int, *, after: bool, do=kill) -> None:
        count = itertools.count()

        def counted(call):
            def replacement(*args, **kwargs):
                is_the_one = next(count) == step
                if is_the_one and not after:
                    do()
                try:
                    return call(*args, **kwargs)
                finally:
                    if is_the_one and after:
                        do()

            return replacement

        class FakeOs:
            def __getattr__(self, name):
                call = (lambda descriptor: None) if name == "fsync" else getattr(os, name)  # no power is cut here
                return counted(call) if name in STEPS else call

        class FakeShutil:
            rmtree = staticmethod(counted(shutil.rmtree))

        for module in (aside, files, lock, publish, staging):
            monkeypatch.setattr(module, "os", FakeOs())
        monkeypatch.setattr(files, "shutil", FakeShutil)
        for name, call in methods.items():
            monkeypatch.setattr(Path, name, counted(call))

    methods = {name: getattr(Path, name) for name in ("unlink", "rmdir", "mkdir", "touch")}
    return arm


def make_plan(setting: int = 1, n_units: int = 3) -> Plan:
    return Plan(
        "toy",
        {"setting": setting, "dtype": "float16"},
        [{"name": "in.txt", "bytes": 3, "sha256": "0" * 64}],
        [{"unit": unit} for unit in range(n_units)],
    )


def finish(staging: Staging) -> Finish:
    total = sum(record["rows"] for record in staging.records())
    table = staging.write(NewFile("table.txt", lambda file: file.write(b"table"), rows=total))
    return Finish([table], {"metadata.json": {"rows": total}}, {"extra": 1})


def run(output: Path, plan: Plan, part: str = "1/1", *, overwrite: bool = False) -> Staging:
    with stage(output, plan, part=Part.parse(part), overwrite=overwrite) as staging:
        for unit in staging.missing():
            number = unit["unit"]
            setting = plan.identity["setting"]
            written = [NewFile(f"a/{number}.bin", bytes([number, setting]) * 10, 10), NewFile(f"b/{number}", b"x")]
            staging.commit(unit, written, {"rows": 10, "dropped": {"bad": 1} if number == 1 else {}})
        staging.seal(finish)
    return staging
