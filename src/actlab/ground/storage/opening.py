"""Where a dataset is made: opened for work, alone or with other parts, or found sealed."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actlab.ground.errors import StorageError
from actlab.ground.storage.aside import is_aside
from actlab.ground.storage.existing import (
    forget_discarded,
    is_done,
    is_done_and_not_begun,
    prepare,
    refuse_other_plan,
)
from actlab.ground.storage.files import (
    GoneError,
    remove_tree,
    storage_errors,
)
from actlab.ground.storage.lock import Lock
from actlab.ground.storage.own_files import refuse_foreign, refuse_foreign_partial
from actlab.ground.storage.plan import (
    PLAN,
    Plan,
    inode,
    is_complete,
    output_of,
    partial_of,
    plan_of_manifest,
    read_plan,
    unit_names,
)
from actlab.ground.storage.publish import is_replaced, old_of, recover
from actlab.ground.storage.staging import TRIES, PublishedError, Staging
from actlab.ground.units import Part

_LOCK_WAIT_S = 20.0


@contextmanager
def stage(output: Path, plan: Plan, *, part: Part, overwrite: bool = False, again: bool = False) -> Iterator[Staging]:
    """Open the place where a dataset is made: new, half made by an earlier run, or found complete.

    With `again` a complete one is made anew, as after a change that the plan does not know of.

    Raises:
        StorageError: There is one made with other settings, or another run is at work on it.
    """
    with storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(_output_lock(output))
        staging = Staging(output, plan, part, lock, overwrite=overwrite)
        for tries_left in reversed(range(TRIES)):
            before = inode(output)
            try:
                with storage_errors(output):
                    _open(staging, stack, lock, again=again)
                break
            except StorageError as error:  # another process published, replaced or discarded it meanwhile
                if not tries_left or not (isinstance(error, GoneError) or inode(output) != before):
                    raise
        with contextlib.suppress(PublishedError):
            yield staging
            return
        staging.sealed = True
        if not lock.is_real:
            lock.remove()


def _open(staging: Staging, stack: contextlib.ExitStack, lock: Lock, *, again: bool) -> None:
    """Make the `.partial` ready for work, or find the dataset sealed."""
    output, plan, part, overwrite = staging.output, staging.plan, staging.part, staging.overwrite
    folder = staging.folder
    if again:
        refuse_foreign(output)
    in_the_making = again or folder.exists() or is_replaced(old_of(output))
    if not in_the_making and is_done(output, plan, overwrite=overwrite, hashes=True):
        if lock.path.exists() and lock.try_acquire():
            lock.remove()  # of a run that was stopped just before its end
        staging.sealed = True
        return
    if _join(lock, folder, part):
        refuse_other_plan(folder, plan)
    else:
        recover(output)
        forget_discarded(folder)
        is_there = not again and is_done_and_not_begun(output, plan, overwrite=overwrite)
        if not is_there:
            prepare(output, plan, overwrite=overwrite)
            # asked again: it may have been published just before, and its `.partial` made anew
            is_there = not again and is_done_and_not_begun(output, plan, overwrite=overwrite)
        if is_there:
            refuse_foreign_partial(folder)
            with storage_errors(folder):
                remove_tree(folder, last=PLAN)
            staging.end()
            return
    if not part.is_whole:
        _share(lock, output)
    if not part.is_whole and lock.is_real:
        own = Lock(folder / f"part-{part.number}-of-{part.of}.lock")
        stack.enter_context(own)
        if not own.try_acquire():
            raise _busy(f"part {part} of {output} is at work already")


def reopen(path: Path, *, overwrite: bool = False) -> Staging | None:
    """Open a `.partial` again by its own plan, alone, to seal it; None where the dataset is sealed.

    `path` is the dataset's folder or its `.partial`.

    Raises:
        StorageError: There is neither, or somebody is at work on it.
    """
    output = output_of(path)
    folder = partial_of(output)
    if not folder.is_dir() and not old_of(output).is_dir():
        if is_complete(output):
            return None
        raise StorageError(f"{path} is no dataset in progress", hint="name a dataset's folder or its .partial")
    lock = _output_lock(output)
    _wait_for_sealer(lock, output)
    recover(output)
    found = inode(output)
    plan = read_plan(folder) or plan_of_manifest(folder)
    if not folder.is_dir():
        lock.remove()
        return None
    if plan is None:
        raise StorageError(f"{folder} has no plan", hint="run the command that made it again")
    staging = Staging(output, plan, Part(), lock, overwrite=overwrite)
    staging.found = found  # by now another process may have published it
    return staging


def _wait_for_sealer(lock: Lock, output: Path) -> None:
    """Take the lock; where all units are done, who has it is sealing, and will soon let go of it.

    Raises:
        StorageError: Somebody is at work on a unit.
    """
    folder, deadline = partial_of(output), time.monotonic() + _LOCK_WAIT_S
    while not lock.try_acquire():
        plan = read_plan(folder)
        n_done = len([name for name in unit_names(folder) if not is_aside(name)])
        is_at_work = plan is not None and n_done < len(plan.units) and (folder / PLAN).exists()
        if is_at_work or time.monotonic() >= deadline:
            raise _busy(f"a run is at work on {output}")
        time.sleep(0.05)


def _join(lock: Lock, folder: Path, part: Part) -> bool:
    """Take the output's lock: alone (False), or with other parts that are at work on a plan (True)."""
    deadline = time.monotonic() + (0.0 if part.is_whole else _LOCK_WAIT_S)
    while True:
        if lock.try_acquire():
            return False
        if not part.is_whole and lock.try_acquire(shared=True) and (folder / PLAN).is_file():
            return True
        lock.release()
        if time.monotonic() >= deadline:
            raise _busy(f"another run is at work on {folder}")
        time.sleep(0.05)  # somebody is planning or sealing


def _share(lock: Lock, output: Path) -> None:
    """Let other parts in; changing a lock's kind lets go of it for a moment, in which another may plan."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    while not lock.try_acquire(shared=True):
        if time.monotonic() >= deadline:
            raise _busy(f"another run is at work on {output}")
        time.sleep(0.05)


def _busy(message: str) -> StorageError:
    return StorageError(message, hint="wait for it to end, then run the same command again")


def _output_lock(output: Path) -> Lock:
    return Lock(output.with_name(output.name + ".partial.lock"))
