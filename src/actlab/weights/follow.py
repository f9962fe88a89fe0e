"""Following a run: TensorBoard's curves, and TensorBoard itself where it is asked for."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from actlab.formats.weights import Row, numbers
from actlab.ground.log import log
from actlab.weights.compute.unit import SURPLUS
from actlab.weights.config.output import TensorBoardSettings
from actlab.weights.training.spec import Epoch

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Seen(NamedTuple):
    """What a unit shows of itself."""

    attempts: Sequence[Row]
    histories: Mapping[int, Sequence[Epoch]]
    """Of the accepted examples, by their ids."""


class _Curves:
    """The run's own curves, a point every so many units; `x` is the number of attempts so far."""

    def __init__(self, writer: "SummaryWriter", settings: TensorBoardSettings) -> None:
        self._writer = writer
        self._settings = settings
        self._start = time.monotonic()
        self._attempts: list[Row] = []
        self._n_units = 0

    def __call__(self, seen: Seen) -> None:
        self._attempts += [attempt for attempt in seen.attempts if attempt["reason"] != SURPLUS]
        self._n_units += 1
        for example_id, history in seen.histories.items() if self._settings.per_example else ():
            for step, epoch in enumerate(history):
                for name in ("train_loss", "validation_loss", "validation_accuracy"):
                    self._writer.add_scalar(f"example_{example_id:06d}/{name}", getattr(epoch, name), step)
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
        for name in ("degraded_accuracy", "improved_accuracy", "target_gain") if accepted else ():
            points[f"accepted/{name}"] = sum(numbers(accepted, name)) / len(accepted)
        rejected = Counter(str(attempt["reason"]) for attempt in self._attempts if not attempt["accepted"])
        points |= {f"rejected/{reason.replace(' ', '_')}": count / n for reason, count in rejected.items()}
        for tag, value in points.items():
            self._writer.add_scalar(tag, value, n)
        self._writer.flush()


@contextmanager
def curves(folder: Path, settings: TensorBoardSettings) -> Iterator[Callable[[Seen], None]]:
    """Lend what draws a run's curves, and TensorBoard on this machine's loopback address where it is asked for."""
    if not settings.enabled:
        yield lambda seen: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer, _tensorboard(folder, settings):
        yield _Curves(writer, settings)


@contextmanager
def _tensorboard(folder: Path, settings: TensorBoardSettings) -> Iterator[None]:
    """Run TensorBoard while the block lasts; a run goes on without it if it does not start."""
    if not settings.auto_launch:
        yield
        return
    messages = folder / "tensorboard.log"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
    with open(messages, "wb") as output:
        server = subprocess.Popen([*command, "--port", str(settings.port)], stdout=output, stderr=output)
    log.info("starting TensorBoard for http://127.0.0.1:%d (its messages: %s)", settings.port, messages)
    try:
        yield
    finally:
        if server.poll() is not None:
            log.warning("TensorBoard ended by itself; its messages are in %s", messages)
        server.kill()
        server.wait()
