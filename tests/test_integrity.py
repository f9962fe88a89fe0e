"""No bit of a sealed dataset changes a result without a word: its readers compare what they read with its manifest."""

import functools
import gc
import hashlib
import io
import itertools
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import actlab
from actlab.activations.source import scan
from actlab.features.train_sae.source import read_texts
from actlab.formats.activations import Activations, load_activations, open_activations, shard_bytes
from actlab.formats.documents import read_documents
from actlab.formats.sentences.folder import load_all_sentences
from actlab.ground import integrity
from actlab.ground.errors import ActlabError, ConfigError, StorageError
from actlab.ground.integrity import check_sealed, input_entry, is_sealed, open_sealed, read_sealed, sealed_manifest
from actlab.ground.manifest import to_json
from actlab.hub.card import make_card
from actlab.text.dataset import TextDataset
from actlab.text.words import is_cut_by_script, versions_of_documents
from tests import fabricated, made_saes
from tests.command_line import fails_in_two_lines, run
from tests.damage import flipped, places, refused_flips, seal
from tests.folders import hashes

N_ROWS, WIDTH = 12, 6


@pytest.fixture
def fresh(tmp_path):
    """A new output for each call."""
    numbers = itertools.count()
    return lambda name="out": tmp_path / "outputs" / f"{next(numbers)}" / name


def probed(dump: Path, output: Path) -> dict[str, str]:
    actlab.train_probe(positive=dump / "EM", negative=dump / "Neutral", output=output, plots=False, quiet=True, folds=2)
    return hashes(output)


@pytest.fixture
def dump(tmp_path) -> Path:
    """A sealed dump of two splits, two shards each."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "dump"
    for split, shift in (("EM", 0.7), ("Neutral", 0.0)):
        layer = folder / split / "layer_01"
        layer.mkdir(parents=True)
        for shard in range(2):
            rows = torch.tensor(rng.standard_normal((N_ROWS // 2, WIDTH)) + shift, dtype=torch.float32)
            (layer / f"shard_{shard:03d}.pt").write_bytes(shard_bytes(rows))
        metadata = {"model_name": "m", "dataset_name": "d", "split": split, "load_in_4bit": False}
        metadata |= {"total_examples": N_ROWS, "shard_size": N_ROWS // 2, "batch_size": 4, "hidden_dim": WIDTH}
        (folder / split / "metadata.json").write_text(json.dumps(metadata | {"num_layers": 2, "layers": [1]}))
    return seal(folder, "activations", shard_size=N_ROWS // 2)


def files(folder: Path, *patterns: str) -> list[Path]:
    found = [path for pattern in patterns or ("**/*",) for path in sorted(folder.glob(pattern)) if path.is_file()]
    assert found
    return found


def test_train_probe_refuses_every_flip_of_a_dump(dump, fresh):
    read = files(dump, "*/metadata.json", "*/layer_*/*.pt")
    assert refused_flips(lambda: probed(dump, fresh()), read) == 4 * len(read)
    shard = dump / "EM" / "layer_01" / "shard_001.pt"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:400] + b"\0" * 100 + whole[500:])
    with pytest.raises(StorageError, match=r"dump is damaged: EM/layer_01/shard_001.pt: its bytes are not the ones"):
        probed(dump, fresh())


def test_a_flip_in_a_manifest_is_said_or_changes_nothing(dump, fresh):
    manifest = dump / "manifest.json"
    says = ("is damaged", "not JSON", "is not an actlab manifest", "bad entry", "the counts", "rows", "no numbers")
    assert refused_flips(lambda: probed(dump, fresh()), [manifest], n=30, says=says) > 20


def test_the_command_says_it_in_two_lines(dump, tmp_path):
    with flipped(dump / "EM" / "layer_01" / "shard_000.pt", 900, 4):
        done = run(
            *("train-probe", "--positive", dump / "EM", "--negative", dump / "Neutral"),
            *("--output", tmp_path / "probe", "--no-plots", "--quiet"),
        )
        fails_in_two_lines(done, 1, f"{dump} is damaged: EM/layer_01/shard_000.pt", hint="actlab verify")
        assert not (tmp_path / "probe").exists()
        shown = run("show", dump)
        fails_in_two_lines(shown, 1, f"{dump} is damaged: EM/layer_01/shard_000.pt", hint="actlab verify")
        verified = run("verify", dump)
        assert verified.returncode == 1
        assert "WRONG EM/layer_01/shard_000.pt: its bytes are not the ones" in verified.stdout


def test_rows_that_are_picked_are_checked_only_where_that_is_asked_for(dump):
    split = dump / "EM"
    with flipped(split / "layer_01" / "shard_001.pt", 900, 4):
        acts = open_activations(dump, "EM")
        assert acts[1][7].shape == (WIDTH,)
        assert acts[1][: N_ROWS // 2].shape == (N_ROWS // 2, WIDTH)  # the other shard, whole
        for read_whole in (
            lambda: acts[1][:],
            lambda: acts[1][[11, 10, 9, 8, 7, 6]],
            lambda: list(acts.iter_shards(1)),
            lambda: list(load_activations(split, 1)),
            lambda: open_activations(dump, "EM", check=True),
        ):
            with pytest.raises(StorageError, match=r"shard_001.pt: its bytes are not the ones that were written"):
                read_whole()
    assert open_activations(dump, "EM", check=True)[1][:].shape == (N_ROWS, WIDTH)


def warned_of(caplog, folder) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.getMessage().startswith(f"{folder} was sealed, but")]


@pytest.mark.parametrize("damage", ["cut", "grown"])
def test_a_damaged_shard_of_a_layer_that_is_not_read_is_refused(dump, fresh, damage):
    other = dump / "EM" / "layer_00" / "shard_001.pt"
    for split in ("EM", "Neutral"):
        shutil.copytree(dump / split / "layer_01", dump / split / "layer_00")
        path = dump / split / "metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"layers": [0, 1]}))
    (dump / "manifest.json").unlink()
    seal(dump, "activations")
    arguments = ("--positive", dump / "EM", "--negative", dump / "Neutral", "--layers", 1, "--folds", 2, "--no-plots")
    assert run("train-probe", *arguments, "--quiet", "--output", fresh()).returncode == 0
    other.write_bytes(other.read_bytes()[:-7] if damage == "cut" else other.read_bytes() + b"0")
    done = run("train-probe", *arguments, "--output", fresh())
    fails_in_two_lines(done, 1, f"{dump} is damaged: EM/layer_00/shard_001.pt", "actlab verify")


def test_a_file_that_the_manifest_of_its_folder_does_not_name_is_said_to_be_unchecked_once(dump, caplog):
    extra = dump / "EM" / "extra.json"
    extra.write_text("{}")
    for _ in range(2):
        assert read_sealed(extra) == b"{}"
        check_sealed(dump / "EM" / "layer_01" / "shard_000.pt")
        check_sealed(dump / "EM" / "missing.json")
    (warning,) = warned_of(caplog, dump)
    assert warning.endswith("its manifest does not list EM/extra.json: not checked")


@pytest.mark.parametrize("has_fingerprint", [False, True])
def test_a_sealed_dataset_without_its_manifest_is_said_to_be_unchecked_once(dump, has_fingerprint, caplog):
    for split in ("EM", "Neutral"):
        path = dump / split / "metadata.json"
        told = {"fingerprint": "0" * 64} if has_fingerprint else {}
        path.write_text(json.dumps(json.loads(path.read_text()) | told))
    (dump / "manifest.json").unlink()
    for _ in range(2):
        assert Activations(dump / "EM")[1][:].shape == (N_ROWS, WIDTH)
    said = warned_of(caplog, dump / "EM")
    assert said == [f"{dump / 'EM'} was sealed, but its manifest is missing: not checked"] * has_fingerprint


def test_what_no_manifest_names_is_read_as_before(dump):
    (dump / "manifest.json").unlink()
    with flipped(dump / "EM" / "layer_01" / "shard_001.pt", 900, 4):
        assert Activations(dump / "EM")[1][:].shape == (N_ROWS, WIDTH)


@pytest.fixture
def sentences(tmp_path) -> Path:
    """A sealed folder of sentence files."""
    folder = fabricated.write_folder(tmp_path / "sentences", 8, layers=(0, 1), width=made_saes.D_IN)
    (folder / "metadata.json").write_text('{"kind": "sentence-features"}')
    return seal(folder, "sentence-features", n_sentences=8)


def generate(sentences, output, **settings):
    (made,) = actlab.generate_datasets(
        **{"strategy": "hidden-to-concept", "input": sentences, "output": output, "layer": 1, "quiet": True} | settings
    )
    return actlab.load_dataset(made.path)


def test_check_refuses_every_flip_of_a_sentence_file(sentences, fresh):
    def generated():
        return generate(sentences, path := fresh("d.npz"), check=True) and hashlib.sha256(path.read_bytes()).hexdigest()

    read = files(sentences, "sentence_00000[15].npz")
    assert refused_flips(generated, read, n=6) == 6 * len(read)

    def ranked():
        actlab.rank_features(input=sentences, output=(path := fresh()), plots=False, quiet=True, check=True)
        return hashes(path)

    assert refused_flips(ranked, read, n=2) == 2 * len(read)


def test_the_metadata_says_whether_sentence_files_were_checked(sentences, fresh):
    def rank(**settings):
        path = actlab.rank_features(input=sentences, output=fresh(), plots=False, quiet=True, **settings).path
        manifest = json.loads((path / "manifest.json").read_text())
        return json.loads((path / "metadata.json").read_text())["inputs_checked"], manifest["fingerprint"]

    assert generate(sentences, fresh("d.npz")).metadata["inputs_checked"] is False
    assert generate(sentences, fresh("d.npz"), check=True).metadata["inputs_checked"] is True
    (was, unchecked), (now, checked) = rank(), rank(check=True)
    assert (was, now, unchecked) == (False, True, checked)
    there = fresh("d.npz")
    generate(sentences, there)
    before = there.read_bytes()
    generate(sentences, there, check=True)  # the same dataset, so it is left as it is
    assert there.read_bytes() == before


def test_check_needs_a_manifest_that_names_the_files(sentences, fresh):
    extra = sentences / "sentence_000009.npz"
    np.savez(extra, **fabricated.arrays_of(8, layers=(0, 1), width=made_saes.D_IN))
    with pytest.raises(StorageError, match="no manifest names"):
        generate(sentences, fresh("d.npz"), check=True)
    extra.unlink()
    (sentences / "sentence_000003.npz").unlink()
    with pytest.raises(StorageError, match=r"is damaged: sentence_000003.npz is missing"):
        generate(sentences, fresh("d.npz"), check=True)
    with pytest.raises(ConfigError, match="--check is for --from-hidden"):
        actlab.compute_features(input="x.csv", sae="s", output=fresh(), check=True)


def test_split_needs_no_flag_for_sentence_files(sentences, fresh):
    """What it reads of them is read whole, with its checksum; a file that is damaged there is left out by name."""

    def split():
        made = actlab.make_split(input=sentences, output=fresh("splits.json"), near_duplicates=0)
        return made.n_dropped, made.splits.text_ids

    whole = split()
    path = sentences / "sentence_000004.npz"
    for place, bit in places(path, 25):
        with flipped(path, place, bit):
            n_dropped, text_ids = split()
            expected = {index: text for index, text in whole[1].items() if not n_dropped or index != 3}
            assert text_ids == expected, place


@pytest.fixture
def sae(tmp_path) -> Path:
    """A sealed SAE, as train-sae lays it out."""
    folder = tmp_path / "saes"
    made_saes.write_saelens(folder / "layer_1", "standard", 1)
    (folder / "metadata.json").write_text('{"kind": "saes"}')
    return seal(folder, "saes")


def test_compute_features_refuses_every_flip_of_a_sealed_sae_and_of_hidden_states(sae, sentences, fresh):
    def encoded():
        actlab.compute_features(
            from_hidden=sentences, sae=sae, output=(path := fresh()), l0_check="off", quiet=True, check=True
        )
        return hashes(path)

    assert refused_flips(encoded, files(sae, "layer_1/*"), n=5) == 10
    assert refused_flips(encoded, files(sentences, "sentence_000007.npz"), n=5) == 5


def test_compute_features_says_whether_hidden_states_were_checked(sae, sentences, fresh):
    def metadata(**settings):
        path = actlab.compute_features(
            from_hidden=sentences, sae=sae, output=fresh(), l0_check="off", quiet=True, **settings
        ).path
        return json.loads((path / "metadata.json").read_text()), hashes(path)

    (was, left), (now, right) = metadata(), metadata(check=True)
    assert (was.pop("inputs_checked"), now.pop("inputs_checked")) == (False, True)
    assert was == now
    differing = {name for name in left if left[name] != right[name]}
    assert differing == {"metadata.json", "manifest.json"}  # the latter names the former's hash


def test_a_sealed_model_and_its_tokenizer_are_checked(llama, tmp_path, fresh, dataset):
    folder = seal(shutil.copytree(llama, tmp_path / "tiny-llama"), "gpt")

    def extracted():
        done = actlab.extract_activations(
            model=folder, dataset=dataset, output=fresh(), layers="0", limit=4, batch_size=4, quiet=True
        )
        return hashes(done[0].path)

    names = ("config.json", "tokenizer.json", "model.safetensors")
    assert refused_flips(extracted, [folder / name for name in names], n=3) == 9


@pytest.mark.parametrize("name", ["d.npz", "d.parquet"])
def test_no_flip_of_a_classifier_dataset_changes_what_is_loaded(name, sentences, tmp_path):
    """Single files have no manifest beside them: NPZ members have their checksums, Parquet a hash of all in it."""
    path = tmp_path / name
    generate(sentences, path)

    def loaded():
        X, y, metadata = actlab.load_dataset(path)
        return X.tobytes(), y.tobytes(), {key: np.asarray(value).tobytes() for key, value in metadata.items()}

    assert refused_flips(loaded, [path], n=100, says=("is damaged", "cannot read")) > 50


def test_a_member_that_hides_behind_a_damaged_header_is_found(sentences, tmp_path):
    """A header that says fewer rows than there are would let numpy stop before the checksum is compared."""
    path = tmp_path / "d.npz"
    generate(sentences, path)
    place = path.read_bytes().index(b"'shape': (8, 32)")
    with flipped(path, place + 10, ord("8") ^ ord("4")), pytest.raises(actlab.ActlabError, match=r"damaged|CRC"):
        actlab.load_dataset(path)


def test_a_parquet_dataset_of_an_earlier_version_opens(sentences, tmp_path):
    import pyarrow.parquet as pq

    path = tmp_path / "d.parquet"
    X = generate(sentences, path).X
    table = pq.read_table(path)
    old = {key: value for key, value in table.schema.metadata.items() if key != b"actlab_sha256"}
    pq.write_table(table.replace_schema_metadata(old), path)
    assert np.array_equal(actlab.load_dataset(path).X, X)


def test_no_flip_of_a_split_is_read_without_a_word(sentences, tmp_path):
    path = tmp_path / "splits.json"
    actlab.make_split(input=sentences, output=path)
    says = (
        "is damaged",
        "not JSON",
        "is no split",
        "is of version",
        "knows nothing",
        "sentence indices",
        "has sentence",
    )

    def read():
        splits = actlab.read_splits(path)
        return splits.side_of, splits.text_ids, splits.group_of

    assert refused_flips(read, [path], n=150, says=says) > 130


def test_a_split_without_its_sum_is_the_same_split_and_its_sides_are_checked(sentences, tmp_path):
    path = tmp_path / "splits.json"
    made = actlab.make_split(input=sentences, output=path)
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_bytes(before := to_json(content))
    assert actlab.read_splits(path).side_of == made.splits.side_of
    actlab.make_split(input=sentences, output=path)
    assert path.read_bytes() == before
    content["train"], content["test"] = content["test"], content["train"]
    path.write_bytes(to_json(content))
    with pytest.raises(actlab.ActlabError, match="is damaged: its fingerprint is not that of its sides"):
        actlab.read_splits(path)


def test_a_flip_in_a_sealed_ranking_is_refused(sentences, tmp_path, fresh):
    ranking = tmp_path / "ranking"
    actlab.rank_features(
        input=sentences, output=ranking, min_pearson=-1.0, min_tpr=0.0, max_fpr=1.0, plots=False, quiet=True
    )

    def generated():
        path = fresh("d.npz")
        generate(sentences, path, strategy="feature-to-concept", layer=None, features_from=ranking)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert refused_flips(generated, [ranking / "ranked_features.csv"], n=8) == 8


@pytest.fixture
def documents(tmp_path) -> Path:
    """A sealed dataset of text."""
    rng = np.random.default_rng(0)
    words = ["the", "cook", "boils", "rice", "slowly", "and", "stirs", "it", "with", "salt", "in", "water"]
    folder = tmp_path / "text"
    folder.mkdir()
    lines = [
        json.dumps(
            {
                "id": f"{k}",
                "text": " ".join(rng.choice(words, 14)) + f" {k}.",
                "n_tokens": 16,
                "labels": {"topic": k % 2},
            }
        )
        for k in range(30)
    ]
    (folder / "documents.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "metadata.json").write_text('{"kind": "text", "counted_in": "tokens"}')
    return seal(folder, "text")


TEXT_COMMANDS = {
    "tokenize-text": lambda source, output: actlab.tokenize_text(
        input=source, output=output, vocab_size=280, validation=0.2, near_duplicates=0, quiet=True
    ),
    "refine-text": lambda source, output: actlab.refine_text(input=source, output=output, tokens=200, quiet=True),
    "split": lambda source, output: actlab.make_split(
        input=source, output=output / "splits.json", label_column="topic", near_duplicates=0
    ),
}


@pytest.mark.parametrize("command", TEXT_COMMANDS)
def test_commands_of_text_refuse_every_flip_of_documents(command, documents, fresh):
    def made():
        TEXT_COMMANDS[command](documents, output := fresh())
        return hashes(output)

    assert refused_flips(made, [documents / "documents.jsonl"], n=5) == 5
    if command == "refine-text":
        assert refused_flips(made, [documents / "metadata.json"], n=3) == 3


@pytest.mark.parametrize(
    ("command", "damaged"),
    [
        ("tokenize-text", "train.bin"),
        ("tokenize-text", "tokenizer/tokenizer.json"),
        ("split", "splits.json"),
    ],
)
def test_made_again_with_overwrite_a_damaged_output_is_as_it_was(command, damaged, documents, tmp_path, monkeypatch):
    output = tmp_path / "out"
    TEXT_COMMANDS[command](documents, output)
    whole, path = hashes(output), output / damaged
    data = path.read_bytes()
    path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    name = {"tokenize-text": "tokenize_text", "split": "make_split"}[command]
    monkeypatch.setattr(actlab, name, functools.partial(getattr(actlab, name), overwrite=True))
    TEXT_COMMANDS[command](documents, output)
    assert hashes(output) == whole


def test_generated_text_that_is_damaged_is_made_again_with_overwrite(tmp_path):
    output = tmp_path / "text"
    arguments = ["generate-text", "simple recipes", "--tokens", 300, "--vocab-size", 300, "--quiet", "--output", output]
    assert run(*arguments).returncode == 0
    whole, path = hashes(output), output / "documents.jsonl"
    path.write_bytes(path.read_bytes().replace(b"the", b"thx", 1))
    assert run("verify", output).returncode == 1
    assert run(*arguments, "--overwrite").returncode == 0
    assert hashes(output) == whole
    assert run("verify", output).returncode == 0


@pytest.mark.parametrize("name", ["d.npz", "d.parquet"])
def test_a_damaged_classifier_dataset_is_made_again_with_overwrite(name, sentences, tmp_path):
    path = tmp_path / name
    X = generate(sentences, path).X
    whole = path.read_bytes()
    place = whole.index(X[3].tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(actlab.ActlabError):
        generate(sentences, path)
    assert (generate(sentences, path, overwrite=True).X == X).all()
    assert path.read_bytes() == whole
    stamp = path.stat().st_mtime_ns
    generate(sentences, path, overwrite=True)
    assert path.stat().st_mtime_ns == stamp, "a whole one stays"


def test_documents_are_checked_where_reading_stops_early_or_a_line_is_broken(documents):
    path = documents / "documents.jsonl"
    with flipped(path, path.stat().st_size - 4, 4):
        lines = open_sealed(path)
        lines.readline()
        with pytest.raises(StorageError, match="is damaged"):
            lines.close()
    with flipped(path, 0, 4), pytest.raises(StorageError, match="is damaged"):  # no JSON any more
        list(read_documents(documents))
    assert len(list(read_documents(documents))) == 30


def test_a_tokenizer_in_a_sealed_dataset_is_checked(documents, tmp_path, fresh):
    tokens = actlab.tokenize_text(input=documents, output=tmp_path / "tokens", vocab_size=280, quiet=True).path

    def made():
        actlab.tokenize_text(input=documents, output=(output := fresh()), tokenizer=tokens / "tokenizer", quiet=True)
        return hashes(output)

    read = files(tokens, "tokenizer/*")
    assert refused_flips(made, read, n=3) == 3 * len(read)


def test_a_text_dataset_refuses_every_flip_of_its_streams(documents, tmp_path):
    tokens = actlab.tokenize_text(
        input=documents, output=tmp_path / "tokens", vocab_size=280, validation=0.2, near_duplicates=0, quiet=True
    ).path

    def opened():
        found = [TextDataset(tokens, split, context=8) for split in ("train", "val")]
        return [[part.tolist() for part in one[k]] for one in found for k in range(len(one))]

    read = files(tokens, "*.bin", "*.idx", "metadata.json")
    assert refused_flips(opened, read) == 4 * len(read)


def test_a_csv_in_a_sealed_folder_is_checked(tmp_path):
    from actlab.formats.tables import read_table

    folder = tmp_path / "sealed"
    folder.mkdir()
    (folder / "s.csv").write_text("sentence,label\n" + "".join(f"text {k},{k}\n" for k in range(40)))
    seal(folder, "text")

    def rows(limit=None):
        return read_table(folder / "s.csv", limit).rows

    assert refused_flips(rows, [folder / "s.csv"], n=6) == 6
    assert refused_flips(lambda: rows(3), [folder / "s.csv"], n=6) == 6


READERS = {
    "extract-activations": lambda path: scan(path, splits=("text",), shard_size=4, limit=3),
    "train-sae": lambda path: read_texts(str(path), text_column="sentence", limit=3),
}


@pytest.mark.parametrize("command", READERS)
def test_commands_that_read_lines_of_any_program_check_sealed_documents_too(command, documents):
    path = documents / "documents.jsonl"
    READERS[command](path)
    for place, bit in places(path, 5):
        with flipped(path, place, bit), pytest.raises(StorageError, match=r"is damaged: documents.jsonl"):
            READERS[command](path)


def test_reading_by_pieces_gives_the_files_bytes(tmp_path):
    folder = tmp_path / "sealed"
    folder.mkdir()
    data = np.random.default_rng(0).bytes(3_000_001)
    (folder / "x").write_bytes(data)
    seal(folder, "text")
    with open_sealed(folder / "x") as file:
        assert file.read(10) + file.readline() + file.read() == data
    assert read_sealed(folder / "x") == data
    check_sealed(folder / "x")
    with io.TextIOWrapper(open_sealed(folder / "manifest.json")) as text:
        assert json.load(text)["kind"] == "text"


def test_a_file_is_hashed_once_a_process_and_again_where_it_was_written_to(tmp_path, monkeypatch):
    folder = tmp_path / "sealed"
    folder.mkdir()
    (folder / "x").write_bytes(b"as it was")
    seal(folder, "text")
    n_hashed = []
    digest = hashlib.file_digest
    monkeypatch.setattr(integrity.hashlib, "file_digest", lambda *args: n_hashed.append(1) or digest(*args))
    for _ in range(3):
        check_sealed(folder / "x")
    assert len(n_hashed) == 1
    times = os.stat(folder / "x")
    (folder / "x").write_bytes(b"as it WAS")
    os.utime(folder / "x", ns=(times.st_atime_ns, times.st_mtime_ns))  # as if nobody had
    with pytest.raises(StorageError, match="is damaged: x"):
        check_sealed(folder / "x")


def test_a_manifest_is_parsed_once_for_all_its_files(sentences, monkeypatch):
    n_read = []
    read = integrity.read_manifest
    monkeypatch.setattr(integrity, "read_manifest", lambda folder: n_read.append(folder) or read(folder))
    load_all_sentences(sentences, check=True)
    assert n_read.count(sentences) <= 3  # once for the files, and by those who look at the manifest itself


def test_other_programs_manifests_are_none(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "an extension of a browser", "files": "all"}')
    (tmp_path / "x").write_bytes(b"anything")
    assert read_sealed(tmp_path / "x") == b"anything"


def test_a_manifest_of_other_settings_than_its_fingerprint_is_refused(sentences):
    path = sentences / "manifest.json"
    path.write_text(path.read_text().replace('"n_sentences": 8', '"n_sentences": 9'))
    for read in (lambda: sealed_manifest(sentences), lambda: read_sealed(sentences / "sentence_000001.npz")):
        with pytest.raises(
            StorageError, match=r"is damaged: manifest.json: its fingerprint is not that of its settings"
        ):
            read()


def test_show_and_the_card_of_a_push_refuse_damaged_metadata(documents):
    manifest = json.loads((documents / "manifest.json").read_text())
    with flipped(documents / "metadata.json", 12, 1):
        fails_in_two_lines(run("show", documents), 1, f"{documents} is damaged: metadata.json")
        with pytest.raises(StorageError, match=r"is damaged: metadata.json"):
            make_card(documents, manifest, "owner/name")


CHECKING = (
    read_sealed,
    check_sealed,
    lambda path: list(read_documents(path)),
    lambda path: input_entry("documents", path),
)


def test_a_link_to_a_sealed_file_is_checked_as_the_file_itself(documents, tmp_path):
    (tmp_path / "sub").mkdir()
    by_file, by_folder = tmp_path / "sub" / "link.jsonl", tmp_path / "linked"
    by_file.symlink_to(documents / "documents.jsonl")
    by_folder.symlink_to(documents)
    for path in (by_file, by_folder / "documents.jsonl", tmp_path / "sub" / ".." / "text" / "documents.jsonl"):
        assert is_sealed(path)
        assert len(list(read_documents(path))) == 30
        readers = [
            read_sealed,
            check_sealed,
            lambda path: list(read_documents(path)),
            lambda path: input_entry("", path),
        ]
        for read in readers:
            read(path)
            with (
                flipped(documents / "documents.jsonl", 60, 1),
                pytest.raises(StorageError, match=r"is damaged: documents\.jsonl"),
            ):
                read(path)
    loop = tmp_path / "loop.jsonl"
    loop.symlink_to(loop)
    with pytest.raises(ActlabError, match="cannot read"):
        list(read_documents(loop))


@pytest.mark.parametrize("change", [lambda text: text[:-20], lambda text: text.replace('"files"', '"filfs"')])
def test_a_manifest_that_cannot_be_read_beside_metadata_does_not_turn_checking_off(change, documents, monkeypatch):
    manifest = documents / "manifest.json"
    manifest.write_text(change(manifest.read_text()))
    (documents / "metadata.json").write_text('{"fingerprint": "as sealing writes it"}')
    for read in (
        read_sealed,
        check_sealed,
        lambda path: list(read_documents(path)),
        lambda path: input_entry("", path),
    ):
        with pytest.raises(StorageError, match=r"manifest\.json is not"):
            read(documents / "documents.jsonl")
    (documents / "metadata.json").rename(documents / "split.json")
    (documents / "EM").mkdir()
    (documents / "split.json").rename(documents / "EM" / "metadata.json")
    with pytest.raises(StorageError, match=r"manifest\.json is not"):
        read_sealed(documents / "documents.jsonl")
    (documents / "EM" / "metadata.json").write_text('{"of": "another program"}')
    monkeypatch.setattr(integrity, "_says_sealed_by", {})
    assert len(list(read_documents(documents))) == 30, "nothing says that it is a dataset of actlab's"


def test_reading_that_stops_early_leaves_no_damage_to_the_garbage_collector(documents, monkeypatch):
    path = documents / "documents.jsonl"
    (documents / "manifest.json").unlink()
    path.write_text('{"text": "猫が水を飲む。"}\n' + path.read_text())
    seal(documents, "text")
    assert versions_of_documents(path, is_cut_by_script)
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with flipped(path, path.stat().st_size - 60, 1), pytest.raises(StorageError, match="is damaged"):
        versions_of_documents(path, is_cut_by_script)
    gc.collect()
    assert not unraisable
