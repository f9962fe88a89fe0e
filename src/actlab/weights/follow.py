"""Following a run: a line of progress, TensorBoard's curves, and TensorBoard itself where it is asked for."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actlab.weights.compute.unit import SURPLUS
from actlab.weights.config.output import TensorBoardSettings

log = logging.getLogger("actlab")


class Curves:
    """The run's own curves, a point every so many units; `x` is the number of attempts so far."""

    def __init__(self, writer: Any, settings: TensorBoardSettings) -> None:
        self._writer = writer
        self._settings = settings
        self._start = time.monotonic()
        self._attempts: list[dict[str, Any]] = []
        self._n_units = 0

    def add(self, attempts: list[dict[str, Any]], histories: dict[int, list[dict[str, Any]]]) -> None:
        """Take a unit's attempts, and the losses of its accepted examples."""
        if self._writer is None:
            return
        self._attempts += [attempt for attempt in attempts if attempt["reason"] != SURPLUS]
        self._n_units += 1
        if self._settings.per_example:
            for example_id, history in histories.items():
                for step, epoch in enumerate(history):
                    for name in ("train_loss", "validation_loss", "validation_accuracy"):
                        self._writer.add_scalar(f"example_{example_id:06d}/{name}", epoch[name], step)
        if self._n_units % self._settings.update_freq == 0:
            self._draw()

    def _draw(self) -> None:
        n = len(self._attempts)
        accepted = [attempt for attempt in self._attempts if attempt["accepted"]]
        points: dict[str, float] = {
            "run/accepted": len(accepted),
            "run/yield": len(accepted) / n if n else 0.0,
            "run/examples_per_s": len(accepted) / max(time.monotonic() - self._start, 1e-9),
        }
        for name in ("degraded_accuracy", "improved_accuracy", "target_gain"):
            if accepted:
                points[f"accepted/{name}"] = sum(attempt[name] for attempt in accepted) / len(accepted)
        for reason in {attempt["reason"] for attempt in self._attempts if not attempt["accepted"]}:
            share = sum(attempt["reason"] == reason for attempt in self._attempts) / n
            points[f"rejected/{reason.replace(' ', '_')}"] = share
        for tag, value in points.items():
            self._writer.add_scalar(tag, value, n)
        self._writer.flush()


@contextmanager
def curves(folder: Path, settings: TensorBoardSettings) -> Iterator[Curves]:
    """Lend the curves of a run, and TensorBoard on this machine's loopback address where it is asked for."""
    if not settings.enabled:
        yield Curves(None, settings)
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer, _tensorboard(folder, settings):
        yield Curves(writer, settings)


@contextmanager
def _tensorboard(folder: Path, settings: TensorBoardSettings) -> Iterator[None]:
    """Run TensorBoard while the block lasts; a run goes on without it if it does not start."""
    if not settings.auto_launch:
        yield
        return
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
    with open(folder / "tensorboard.log", "wb") as output:
        server = subprocess.Popen([*command, "--port", str(settings.port)], stdout=output, stderr=output)
    log.info(
        "starting TensorBoard for http://127.0.0.1:%d (its messages: %s)", settings.port, folder / "tensorboard.log"
    )
    try:
        yield
    finally:
        if server.poll() is not None:
            log.warning("TensorBoard ended by itself; its messages are in %s", folder / "tensorboard.log")
        server.kill()
        server.wait()
