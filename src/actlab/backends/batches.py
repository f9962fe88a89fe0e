"""Cut examples into batches: sorted by length, under a budget of tokens."""

from collections.abc import Callable, Hashable, Sequence


def plan_batches(
    lengths: Sequence[int],
    *,
    batch_size: int,
    batch_tokens: int,
    group: Callable[[int], Hashable] = lambda n_tokens: 0,
) -> list[list[int]]:
    """Return batches of indices, longest examples first, each within both budgets.

    The plan depends on the arguments alone. Tokens count with padding: rows x longest row. An example that
    is longer than the budget is a batch of its own. Examples whose lengths differ in `group` never meet.

    >>> plan_batches([3, 9, 4, 2], batch_size=2, batch_tokens=10)
    [[1], [2, 0], [3]]
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        batch = batches[-1] if batches else []
        if (
            batch
            and len(batch) < batch_size
            and (len(batch) + 1) * lengths[batch[0]] <= batch_tokens
            and group(lengths[batch[0]]) == group(lengths[index])
        ):
            batch.append(index)
        else:
            batches.append([index])
    return batches
