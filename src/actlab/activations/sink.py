"""Which files a unit of activations becomes, and what a finished dump adds to them."""

# n example, l layer, d model width

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from actlab.activations.compute import UnitStates
from actlab.activations.positions import POSITIONS
from actlab.activations.source import BAD_LINES, UnitLines
from actlab.activations.tokenise import (
    CUT_AWAY,
    EMPTY,
    NO_SUCH_TOKEN,
    NOT_FINITE,
    NOT_IN_TEMPLATE,
    NOT_TEXT,
    OVER_LIMIT,
    TOO_LONG,
    Example,
)
from actlab.formats.activations import (
    EXAMPLES,
    EXAMPLES_SCHEMA,
    KIND,
    layer_folder,
    shard_bytes,
    shard_name,
)
from actlab.ground.limits import LONG_LINE, LONG_TEXT, SHORTER_HINT
from actlab.ground.made_on import made_on
from actlab.ground.manifest import METADATA, Environment
from actlab.ground.storage import FORMAT_VERSION, Finish, NewFile, Staging, write_dropped

HOOK = "output of block k (hidden_states[k + 1]); the last block's is before the final norm"


_HINTS = {
    NOT_TEXT: "write each response as a string",
    EMPTY: "is this the right file? its texts say nothing",
    TOO_LONG: "give a larger --max-length, or --truncate left or right",
    OVER_LIMIT: "give a larger --max-length, or --truncate prompt",
    CUT_AWAY: "give a larger --max-length, or --truncate prompt",
    NOT_IN_TEMPLATE: "omit --chat-template, or use a tokenizer whose template writes texts as they are",
    NOT_FINITE: "run the model with --model-dtype float32; if it was, its weights are damaged",
    **dict.fromkeys(BAD_LINES, 'write one JSON object a line: {"prompt": …, "EM": …}'),
    **dict.fromkeys((LONG_LINE, LONG_TEXT), SHORTER_HINT),
}
"""What helps where nothing is left, by the most frequent reason."""


def unit_files(
    unit: UnitLines, result: UnitStates, *, splits: tuple[str, ...], layers: tuple[int, ...], shard_size: int
) -> Iterator[NewFile]:
    """Yield a unit's shards: one for each split, layer and stretch of `shard_size` source lines."""
    first_shard = unit.first_line // shard_size
    n_shards = -(-unit.n_lines // shard_size)
    for split in splits:
        for shard in range(first_shard, first_shard + n_shards):
            members = [
                index
                for index, example in enumerate(result.examples)
                if example.split == split and (example.row.line - 1) // shard_size == shard
            ]
            for place, layer in enumerate(layers):
                data = shard_bytes(result.states_nld[torch.tensor(members, dtype=torch.long), place])
                yield NewFile(f"{split}/{layer_folder(layer)}/{shard_name(shard)}", data, len(members))


TableRow = list[Any]
"""An example's values, in the order of EXAMPLES_SCHEMA."""


class UnitRecord(TypedDict):
    """What a unit's completion record says besides its files."""

    dropped: dict[str, int]
    dropped_records: list[dict[str, object]]
    dtype: str
    environment: Environment
    examples: dict[str, list[TableRow]]
    """By split."""


def unit_record(result: UnitStates, token_text: Callable[[int], str], environment: Environment) -> UnitRecord:
    """Return what the unit's completion record says besides its files."""
    examples: dict[str, list[TableRow]] = {}
    for example in result.examples:
        examples.setdefault(example.split, []).append(_table_row(example, token_text))
    return {
        "dropped": dict(Counter(one.reason for one in result.dropped)),
        "dropped_records": [one._asdict() for one in result.dropped],
        "dtype": str(result.states_nld.dtype).removeprefix("torch."),
        "environment": environment,
        "examples": examples,
    }


def _table_row(example: Example, token_text: Callable[[int], str]) -> TableRow:
    position = example.start if example.stop - example.start == 1 else None
    token_id = None if position is None else example.ids[position]
    return [
        example.row.line,
        example.row.row_id,
        example.row.prompt_id,
        len(example.ids),
        example.n_truncated,
        position,
        token_id,
        None if token_id is None else token_text(token_id),
        example.ids[-1],
        token_text(example.ids[-1]),
    ]


def finish(staging: Staging) -> Finish:
    """Write the example tables and the list of what was dropped, and return the metadata of each split."""
    identity = staging.plan.identity
    splits: list[str] = identity["splits"]
    counts = {split: Counter(rows=0, truncated=0) for split in splits}
    environments: list[Environment] = []
    dtypes: set[str] = set()
    dropped: Counter[tuple[object, object]] = Counter()
    for record in staging.records_as(UnitRecord):
        if record["examples"]:  # without one, no model ran
            environments.append(record["environment"])
            dtypes.add(record["dtype"])
        dropped.update((one["split"], one["reason"]) for one in record["dropped_records"])
        for split, rows in record["examples"].items():
            counts[split]["rows"] += len(rows)
            counts[split]["truncated"] += sum(row[_TRUNCATED] > 0 for row in rows)
    files = [
        staging.write(NewFile(f"{split}/{EXAMPLES}", _table_writer(staging, split), counts[split]["rows"]))
        for split in splits
    ]
    files += write_dropped(staging)
    metadata = {
        f"{split}/{METADATA}": _metadata(
            staging,
            split,
            counts[split],
            dtype=", ".join(sorted(dtypes)) or identity["dtype"],
            dropped={reason: count for (of, reason), count in sorted(dropped.items(), key=str) if of in (None, split)},
        )
        for split in splits
    }
    hints = _HINTS | {NO_SUCH_TOKEN: POSITIONS[identity["position"]].hint}
    return Finish(files, metadata, {"made_on": made_on(environments)}, hints)


_TRUNCATED = EXAMPLES_SCHEMA.get_field_index("n_truncated")


def _metadata(
    staging: Staging, split: str, counts: "Counter[str]", *, dtype: str, dropped: Mapping[object, int]
) -> Mapping[str, object]:
    identity = staging.plan.identity
    return {
        "model_name": identity["model_name"],
        "dataset_name": identity["dataset_name"],
        "split": split,
        "load_in_4bit": identity["load_in_4bit"],
        "total_examples": counts["rows"],
        "shard_size": identity["shard_size"],
        "batch_size": identity["batch_size"],
        "hidden_dim": identity["hidden_dim"],
        "num_layers": identity["num_layers"],
        "layers": identity["layers"],
        "hook": HOOK,
        "position": identity["position"],
        "dtype": dtype,
        "text": "chat template" if identity["chat_template"] else 'prompt + "\\n" + response',
        "max_tokens": identity["max_length"],
        "truncate": identity["truncate"],
        "truncated_examples": counts["truncated"],
        "dropped": dropped,
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": staging.plan.fingerprint,
    }


def _table_writer(staging: Staging, split: str) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, EXAMPLES_SCHEMA) as writer:
            for record in staging.records_as(UnitRecord):
                columns = list(zip(*record["examples"].get(split, []), strict=True))
                if columns:
                    arrays = [
                        pa.array(column, field.type) for column, field in zip(columns, EXAMPLES_SCHEMA, strict=True)
                    ]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=EXAMPLES_SCHEMA))

    return write
