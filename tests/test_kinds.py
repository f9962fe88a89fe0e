"""One registry of kinds: who shows, checks and seals a dataset, and what is none."""

import json
from pathlib import Path

import pytest

import actlab
import actlab.datasets
from actlab.ground.errors import ActlabError, ConfigError, StorageError
from actlab.ground.kinds import Later, known_kinds
from actlab.ground.storage import NewFile, Plan
from tests.fabricated import write_folder
from tests.folders import Made, publish_single


def seal(output: Path, kind: str) -> Path:
    made = Made([NewFile("a.bin", b"abc")], {"kind": kind, "n": 3})
    publish_single(output, Plan(kind, {"x": 1}, [], ({"unit": 0},)), lambda: made, overwrite=False)
    return output


@pytest.mark.parametrize("name", sorted(known_kinds()))
def test_the_functions_that_answer_for_a_kind_are_there(name):
    for later in vars(known_kinds()[name]).values():
        if isinstance(later, Later):
            assert callable(later.function)


@pytest.mark.parametrize("kind", ["saes", "feature-ranking", "probe"])
def test_a_folder_of_any_kind_is_shown_with_its_sizes_and_verified_by_its_hashes(kind, tmp_path):
    folder = seal(tmp_path / "x", kind)
    shown = actlab.show_dataset(folder)
    assert list(shown)[:5] == ["path", "n_files", "n_bytes", "kind", "made_on"]
    assert (shown["kind"], shown["n"], shown["n_files"]) == (kind, 3, sum(map(Path.is_file, folder.iterdir())))
    assert actlab.verify_dataset(folder).problems == []
    (folder / "a.bin").write_bytes(b"abd")
    assert actlab.verify_dataset(folder).problems == [
        "a.bin: its bytes are not the ones that were written (sha256 differs)"
    ]


def test_a_dataset_of_a_kind_that_is_not_known_asks_for_a_newer_actlab(tmp_path):
    folder = seal(tmp_path / "x", "hologram")
    for look in (actlab.show_dataset, actlab.verify_dataset):
        with pytest.raises(StorageError, match="of kind 'hologram'") as refused:
            look(folder)
        assert "upgrade" in refused.value.hint


@pytest.mark.parametrize("kind", ["saes", "weights", "gpt"])
def test_without_its_manifest_only_what_other_programs_write_can_be_verified(kind, tmp_path):
    folder = seal(tmp_path / "x", kind)
    (folder / "manifest.json").unlink()
    with pytest.raises(StorageError, match="has no manifest"):
        actlab.verify_dataset(folder)


@pytest.mark.parametrize(("kind", "instead"), [("saes", "omit --recompute"), ("weights", "actlab reproduce DIR")])
def test_only_activations_are_made_again_and_others_say_what_to_do_instead(kind, instead, tmp_path):
    folder = seal(tmp_path / "x", kind)
    for asked in ({"recompute": 1}, {"model": "m"}, {"dataset": "d"}):
        with pytest.raises(ConfigError, match="only a dump of activations") as refused:
            actlab.verify_dataset(folder, **asked)
        assert instead in refused.value.hint
    with pytest.raises(ConfigError, match="--recompute -1"):
        actlab.verify_dataset(folder, recompute=-1)


def test_what_holds_several_datasets_is_told_from_one(tmp_path):
    seal(tmp_path / "root" / "deep" / "x", "probe")
    seal(tmp_path / "root" / "y", "saes")
    assert [path.name for path in actlab.datasets.datasets_in(tmp_path / "root")] == ["x", "y"]
    assert actlab.datasets.datasets_in(tmp_path / "root" / "y") == []
    with pytest.raises(ActlabError):
        actlab.show_dataset(tmp_path / "root")


def test_a_dataset_whose_plugins_are_not_loaded_is_not_verified_and_says_which_flag_is_missing(tmp_path):
    plan = Plan("probe", {"plugins": {"hers": "1" * 64, "mine": "0" * 64}}, [], ({"unit": 0},))
    publish_single(tmp_path / "x", plan, lambda: Made([], {"kind": "probe"}), overwrite=False)
    with pytest.raises(ConfigError, match="not loaded, or differ: hers, mine") as refused:
        actlab.verify_dataset(tmp_path / "x")
    assert refused.value.hint.endswith("--plugins hers --plugins mine")
    assert json.loads((tmp_path / "x" / "manifest.json").read_text())["identity"]["plugins"]


def test_sentence_files_of_another_program_are_verified_though_a_dataset_lies_above_them(tmp_path):
    above = seal(tmp_path / "x", "probe")
    write_folder(above / "theirs", 3)
    found = actlab.verify_dataset(above / "theirs")
    assert (found.path, found.has_manifest, found.problems) == (above / "theirs", False, [])
