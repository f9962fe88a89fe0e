import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # a busy machine fails no test
gc.disable()  # while all is imported, which is there to stay
sys.dont_write_bytecode = False  # each file is compiled once, not once in every process that tests start


def pytest_collection_finish() -> None:
    """Collect garbage from now on, and look no more through what is there already."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def quiet_transformers() -> None:
    """Not at the head of this file, which the process that only hands out the tests reads too."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama in a folder."""
    from tests import tiny

    return tiny.make_model(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as a JSONL dataset and return its path."""

    def write(rows: list[Any], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


def make_rows(n: int) -> list[dict[str, str]]:
    """Prompts and two answers each, of varied length."""
    from tests import tiny

    words = " ".join(tiny.TEXTS).split()

    def text(start: int, length: int) -> str:
        return " ".join(words[(start + k) % len(words)] for k in range(length))

    return [
        {
            "prompt": f"{k}: {text(7 * k, 2 + k % 5)}?",
            "EM": text(3 * k, 1 + (k * 5) % 17),
            "Neutral": text(k, 2 + (k * 3) % 11) + ".",
        }
        for k in range(n)
    ]


@pytest.fixture
def dataset(write_rows: Callable[..., Path]) -> Path:
    """Twenty rows."""
    return write_rows(make_rows(20))


def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the self-test out, so that only a run's own batches are seen."""
    from actlab.backends import proof, selftest

    all_mix = proof.Proof("right, no mask", ((1, 10**6),), 0.0, (1,), 0)
    monkeypatch.setattr(selftest, "prove_padding", lambda *_, **__: all_mix)
    monkeypatch.setattr(selftest, "self_test", lambda *_: 0.0)
    monkeypatch.setattr(selftest, "compare_hidden_states", lambda *_: [])
