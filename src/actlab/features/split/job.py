"""`actlab split`: read the sentences, keep near-duplicates together, divide, write one file."""

from dataclasses import dataclass
from functools import cached_property

from actlab.features.split.compute.division import divided
from actlab.features.split.compute.duplicates import versions_for
from actlab.features.split.compute.sides import VERSION
from actlab.features.split.config import SplitConfig
from actlab.features.split.source import Items, read_items
from actlab.formats.splits import SIDES, Splits, is_split, splits_bytes, text_id
from actlab.ground.errors import StorageError
from actlab.ground.job import Cost, FileJob, Outcome, run_job
from actlab.ground.log import log
from actlab.ground.manifest import read_object
from actlab.ground.options import identity_of, takes
from actlab.ground.storage import OneFile, write_file


@dataclass(frozen=True, kw_only=True)
class MadeSplit(Outcome):
    """A split on disk; what is dropped are files or rows of the input that are on no side."""

    splits: Splits

    def as_json(self) -> dict[str, object]:
        """Return its fingerprint, and how many sentences are on each side."""
        return {
            "path": self.path,
            "fingerprint": self.splits.fingerprint,
            **self.splits.sizes,
            "n_dropped": self.n_dropped,
        }

    def tell(self) -> None:
        """Log what was left out."""
        if self.n_dropped:
            log.warning("%d files or rows of the input are on no side", self.n_dropped)


@takes(SplitConfig)
def make_split(config: SplitConfig) -> MadeSplit:
    """Divide the input's sentences and write `splits.json`, unless it is there already.

    Raises:
        ConfigError: The input, or the column or one of its values, is not there.
        DataError: The input is damaged or has too few sentences.
        StorageError: Another file is in the way.
    """
    return run_job(jobs_of(config))


def jobs_of(config: SplitConfig) -> list[list["SplitJob"]]:
    """Return the one job."""
    return [[SplitJob(config)]]


class SplitJob(FileJob[MadeSplit]):
    """One split."""

    def __init__(self, config: SplitConfig) -> None:
        self.config = config
        self.file = OneFile(
            path=config.output,
            overwrite=config.overwrite,
            is_own=is_split,
            foreign="is no split",
            example="--output splits.json",
        )

    @cached_property
    def items(self) -> Items:
        """What is divided."""
        return read_items(self.config)

    @cached_property
    def splits(self) -> Splits:
        """Who is on which side, and how it came to be."""
        items, config = self.items, self.config
        division = divided(items, config)
        division.tell(config)
        texts = items.texts_told
        return Splits(
            side_of={index: SIDES[side] for index, side in zip(items.indices, division.side_i.tolist(), strict=True)},
            text_ids={index: text_id(text) for index, text in texts.items()},
            group_of=division.group_of,
            settings={
                **identity_of(config),
                "versions": {"split": VERSION} | (versions_for(texts.values()) if config.looks_for_duplicates else {}),
                "input": items.input,
                "stratified_by": items.stratified_by,
                "n_groups": int(division.group_i.max()) + 1,
                "near_duplicates_on_two_sides": division.on_two_sides,
            },
        )

    def is_there(self) -> bool:
        """Whether the same split is there, or the one that actlab 0.2 wrote of it."""
        self.file.refuse_foreign()
        before = splits_bytes(self.splits, with_sum=False)
        return self.file.has(splits_bytes(self.splits), before, other=self._other)

    def _other(self) -> str:
        """Say what split is there."""
        settings = read_object(self.file.path).get("settings")
        if isinstance(settings, dict) and settings.get("versions") != self.splits.settings["versions"]:
            raise StorageError(
                f"{self.file.path} is a split that another version of actlab drew",
                hint="it stays valid: pass it by --split; to draw anew, choose another --output, or give --overwrite",
            )
        return "is another split"

    def write(self) -> None:
        """Write the file."""
        write_file(self.file.path, splits_bytes(self.splits))

    def outcome(self) -> MadeSplit:
        """Return the split."""
        return MadeSplit(path=self.file.path, splits=self.splits, n_dropped=self.items.n_dropped)

    def cost(self) -> Cost:
        """Divide, and write nothing."""
        n_sentences, sizes = len(self.items.indices), self.splits.sizes
        return Cost(
            path=self.file.path,
            n_records=n_sentences,
            records="sentences",
            notes=(", ".join(f"{side} {size}" for side, size in sizes.items()),),
            details={"fingerprint": self.splits.fingerprint, **sizes, "n_dropped": self.items.n_dropped},
        )
