"""Reading JSONL: every line is a row or has a reason; units are whole shards."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actlab.activations.source import Dropped, Row, find_datasets, parse_line, read_unit, scan
from actlab.ground.errors import ConfigError, DataError

SPLITS = ("EM", "Neutral")


def scanned(path, **settings):
    return scan(path, **{"splits": SPLITS, "shard_size": 4, "limit": None, **settings})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "bad JSON"),
        (b"[" * 100_000, "bad JSON"),
        (b'"text"', "not a JSON object"),
        (b'{"prompt": ""}', "no prompt"),
        (b'{"prompt": 3, "EM": "x"}', "no prompt"),
        (b'{"prompt": "\xe9", "EM": "x"}', "invalid UTF-8"),
        (b'{"prompt": "\\udc00", "EM": "x"}', "invalid Unicode"),
    ],
)
def test_a_line_that_is_no_row_has_a_reason(data, reason):
    assert parse_line(data, 7, SPLITS) == Dropped(7, None, reason)


def test_a_missing_or_empty_response_is_no_error():
    row = parse_line(b'{"prompt": "p", "EM": "", "Neutral": null}', 1, SPLITS)
    assert isinstance(row, Row)
    assert row.responses == {}


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "p", "EM": "x"}\r\n\r\n{"prompt": "q", "EM": "y"}\r\n')
    source = scanned(path)
    rows = [row for unit in source.units for row in read_unit(source, unit)]
    assert [(row.line, row.prompt) for row in rows] == [(1, "p"), (3, "q")]
    assert source.n_lines == 3


def test_rows_of_the_other_kind_are_dropped_and_counted_not_skipped(tmp_path):
    path = tmp_path / "mixed.jsonl"
    pair, text = json.dumps({"prompt": "p", "EM": "x"}), json.dumps({"text": "one"})
    path.write_text(f"{text}\n{pair}\n")
    source = scanned(path)
    assert [type(one) for one in read_unit(source, source.units[0])] == [Row, Dropped]
    path.write_text(f"{pair}\n{text}\n")
    source = scanned(path)
    assert [type(one) for one in read_unit(source, source.units[0])] == [Row, Dropped]


def test_one_bad_response_costs_its_own_record_and_no_other():
    row = parse_line(b'{"prompt": "p", "EM": 5, "Neutral": "fine"}', 1, SPLITS)
    assert (row.responses, row.not_text) == ({"Neutral": "fine"}, ("EM",))


def test_a_split_that_is_nearly_a_key_is_taken_for_a_slip(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"prompt": "p", "EM": "x", "Neutral": "y"}))
    with pytest.raises(DataError, match=r"no row .* has the split 'Neutrall'") as caught:
        scanned(path, splits=("EM", "Neutrall"))
    assert caught.value.hint == "did you mean 'Neutral'?"


@pytest.mark.parametrize("change", ["shorter", "reversed", "gone"])
def test_a_file_that_changes_during_the_run_is_refused(tmp_path, change):
    path = tmp_path / "data.jsonl"
    lines = [json.dumps({"prompt": f"p{k}", "EM": "x"}) for k in range(9)]
    path.write_text("\n".join(lines))
    source = scanned(path)
    if change == "gone":
        path.unlink()
    else:
        path.write_text("\n".join(lines[::-1] if change == "reversed" else lines[:4]))
    with pytest.raises(DataError, match="changed during the run"):
        list(read_unit(source, source.units[0]))


def test_plain_texts_and_conversations_are_the_split_text(tmp_path):
    path = tmp_path / "texts.jsonl"
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    path.write_text(json.dumps({"text": "one"}) + "\n" + json.dumps({"messages": messages}) + "\n")
    source = scanned(path)
    assert source.splits == ("text",)
    one, two = read_unit(source, source.units[0])
    assert (one.prompt, one.responses) == ("", {"text": "one"})
    assert (two.prompt, two.responses, two.messages) == ("hi", {"text": "yo"}, tuple(messages))


def test_a_file_of_nothing_usable_is_refused_with_its_reasons(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("{\n{\n")
    with pytest.raises(DataError, match=r"bad JSON \(2\)"):
        scanned(path)


def test_folders_are_opened_up_and_what_is_not_there_is_said(tmp_path):
    (tmp_path / "b.jsonl").touch()
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "c.txt").touch()
    assert [path.name for path in find_datasets((str(tmp_path),))] == ["a.jsonl", "b.jsonl"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no \.jsonl file"):
        find_datasets((str(tmp_path / "empty"),))


line = st.one_of(
    st.just(b""),
    st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"")),
    st.text(min_size=1, max_size=8).map(lambda text: json.dumps({"prompt": text, "EM": text}).encode()),
)


@given(
    lines=st.lists(line, min_size=1, max_size=40), shard_size=st.integers(1, 9), limit=st.none() | st.integers(1, 50)
)
def test_units_cover_every_line_once_as_the_slow_obvious_way_does(tmp_path_factory, lines, shard_size, limit):
    path = tmp_path_factory.mktemp("source") / "data.jsonl"
    good = json.dumps({"prompt": "p", "EM": "x"}).encode()
    lines = [good, *lines]
    path.write_bytes(b"\n".join(lines) + b"\n")
    source = scanned(path, shard_size=shard_size, limit=limit)
    wanted = path.read_bytes().split(b"\n")[:-1][:limit]
    expected = [parse_line(data, k + 1, SPLITS) for k, data in enumerate(wanted) if data.strip()]
    assert [row for unit in source.units for row in read_unit(source, unit)] == expected
    assert source.n_lines == len(wanted)
    assert all(unit.first_line % shard_size == 0 for unit in source.units)


def test_a_long_line_is_hashed_and_counted_as_one(tmp_path):
    import hashlib

    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "x" * 3_000_000, "EM": "y"}) + "\n" + json.dumps({"prompt": "p", "EM": "z"}))
    source = scanned(path, shard_size=1)
    assert (source.n_lines, source.sha256) == (2, hashlib.sha256(path.read_bytes()).hexdigest())
