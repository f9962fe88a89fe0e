"""refine-text's judge: a model at a server, asked where the score leaves it open."""

import json

import pyarrow.parquet as pq
import pytest

from actlab.formats.documents import Document, document_line
from actlab.ground.errors import ActlabError
from actlab.text.refine.run import refine_text
from tests.conformance_server import Fault, serve

GOOD = (
    "Boil the rice with {n} cardamom pods until it is tender. Then let it rest for {n} minutes, covered with a cloth."
)
OPEN = "rice rice rice and {n} pots of it, then rice, then more rice in pots and again rice"


def corpus(folder):
    texts = [GOOD.format(n=n) for n in range(2, 8)] + [OPEN.format(n=n) + "." for n in range(2, 8)]
    path = folder / "documents.jsonl"
    lines = (document_line(Document(str(k), text, 20, "template", {})) for k, text in enumerate(texts))
    path.write_bytes(b"".join(lines))
    return path


def test_a_judges_points_are_in_the_table_and_nothing_is_asked_twice(tmp_path):
    source = corpus(tmp_path)
    settings = {"input": source, "prompt": "rice dishes", "near_duplicates": 0.0, "min_score": 0.0, "plots": False}
    with serve() as server:
        asked = {"judge": "tiny", "base_url": server.url, "output": tmp_path / "out"}
        refine_text(**settings, **asked)
        table = pq.read_table(tmp_path / "out" / "quality.parquet").to_pylist()
        judged = [row for row in table if row["judged"] is not None]
        texts = dict(enumerate(json.loads(line)["text"] for line in source.read_text().splitlines()))
        assert judged
        for row in judged:
            assert row["judged"] == len(texts[int(row["id"])].split()) % 6 / 5
        n_answered = sum(server.answered.values())
        assert n_answered == len(judged)
        refine_text(**settings, **asked, overwrite=True, select="top")
        again = pq.read_table(tmp_path / "out" / "quality.parquet").to_pylist()
        known = {row["id"] for row in judged}
        new = [row for row in again if row["judged"] is not None and row["id"] not in known]
        assert sum(server.answered.values()) == n_answered + len(new)
    assert json.loads((tmp_path / "out" / "metadata.json").read_text())["judge"] == "tiny"


def test_a_judge_that_is_not_there_or_gives_no_scores_is_told(tmp_path):
    source = corpus(tmp_path)
    settings = {"input": source, "prompt": "rice", "judge": "tiny", "plots": False, "output": tmp_path / "out"}
    with pytest.raises(ActlabError, match="does not answer"):
        refine_text(**settings, base_url="http://127.0.0.1:9")
    with serve(always=Fault("status", status=500, message="it is broken")) as server:
        with pytest.raises(ActlabError):
            refine_text(**settings, base_url=server.url)
    assert not (tmp_path / "out").exists()
