"""A job's units, done by worker processes."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial

from actlab.ground.errors import ActlabError
from actlab.ground.job import DatasetJob, Done, Result
from actlab.ground.plugins import load_plugins
from actlab.ground.progress import More

_WATCH = "actlab-watch"


def done_by_processes(
    job: DatasetJob[Result], units: Sequence[int], n_workers: int, more: More
) -> Iterator[tuple[int, Done]]:
    """Yield units' numbers and what came of them as they are done, in any order; each process has one thread.

    The job is pickled with its plan, and opened again in each process. `more` is told of a unit when it is done.

    Raises:
        ActlabError: A worker process was killed.
    """
    from concurrent.futures.process import BrokenProcessPool

    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor

    try:
        with parallel_config("loky", n_jobs=n_workers, inner_max_num_threads=1, max_nbytes=None):
            workers = Parallel(return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
            for number, done, told in workers(delayed(_do)(os.getpid(), job, number) for number in units):
                for n_more, note in told:
                    more(n_more, note)
                yield number, done
    except BrokenProcessPool as error:
        raise ActlabError(
            "a worker process was killed, perhaps for want of memory",
            hint="use fewer --workers, or free some memory, and run the same command again: finished units are kept",
        ) from error
    finally:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)


def _do(parent: int, job: DatasetJob[Result], number: int) -> tuple[int, Done, list[tuple[int, str]]]:
    """Do a unit in a worker process, which ends when the process that it works for was killed.

    Returns:
        The unit's number, what came of it without functions, and what `more` is to be told.
    """
    if _WATCH not in {thread.name for thread in threading.enumerate()}:
        threading.Thread(target=_end_with, args=(parent,), name=_WATCH, daemon=True).start()
    load_plugins(job.config.plugins)
    told: list[tuple[int, str]] = []
    start = time.monotonic()
    with job.open() as worker:
        done = worker(number, lambda more, note="": told.append((more, note)))
        files = list(done.files)
        record = done.record() if callable(done.record) else done.record
        elapsed_s = round(time.monotonic() - start, 3)
        event = None if done.event is None else partial(dict[str, object], {"compute_s": elapsed_s, **done.event()})
    return number, Done(files, record, event, done.seen), told


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
