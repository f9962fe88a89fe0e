"""refine-text's judge: a model at a server, asked where the score leaves it open."""

import json
import logging

import pyarrow.parquet as pq
import pytest

from actlab.formats.documents import Document, document_line
from actlab.ground.errors import ActlabError
from actlab.servers.calls import ServerError
from actlab.text import DataRefiner
from actlab.text.refine.config import RefineConfig
from actlab.text.refine.job import refine_text
from actlab.text.refine.judge import asked
from tests import conformance_server
from tests.command_line import fails_in_two_lines, run
from tests.conformance_server import DIGEST, MODEL, Fault, serve

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
        there = {"judge": "tiny", "base_url": server.url, "output": tmp_path / "out"}
        refine_text(**settings, **there)
        table = pq.read_table(tmp_path / "out" / "quality.parquet").to_pylist()
        judged = [row for row in table if row["judged"] is not None]
        texts = dict(enumerate(json.loads(line)["text"] for line in source.read_text().splitlines()))
        assert judged
        for row in judged:
            assert row["judged"] == len(texts[int(row["id"])].split()) % 6 / 5
        n_answered = sum(server.answered.values())
        assert n_answered == len(judged)
        refine_text(**settings, **there, overwrite=True, select="top")
        again = pq.read_table(tmp_path / "out" / "quality.parquet").to_pylist()
        known = {row["id"] for row in judged}
        new = [row for row in again if row["judged"] is not None and row["id"] not in known]
        assert sum(server.answered.values()) == n_answered + len(new)
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert (metadata["judge"], metadata["judge_digest"]) == (MODEL, DIGEST)
    assert (metadata["judge_api"], metadata["n_unanswered"]) == ("ollama", 0)


def table_of(folder):
    return {row["id"]: row for row in pq.read_table(folder / "quality.parquet").to_pylist()}


def test_a_text_without_an_answer_keeps_its_own_score_and_is_counted(tmp_path, caplog):
    settings = {"input": corpus(tmp_path), "prompt": "rice dishes", "near_duplicates": 0.0, "min_score": 0.0}
    settings |= {"plots": False, "judge": "tiny"}
    refine_text(**(settings | {"judge": None}), output=tmp_path / "alone")
    prompts = []

    def two_of_three(prompt, nth):
        prompts.append(prompt)
        return None if len(prompts) % 3 == 0 else Fault("status", status=400, message="no")

    with serve(fault_of=two_of_three) as server, caplog.at_level(logging.WARNING):
        refine_text(**settings, base_url=server.url, output=tmp_path / "out")
        n_answered = sum(server.answered.values())
    alone, judged = table_of(tmp_path / "alone"), table_of(tmp_path / "out")
    silent = [row for row in judged.values() if 0.35 < alone[row["id"]]["score"] < 0.80 and row["judged"] is None]
    assert len(prompts) == 6
    assert (len(silent), n_answered) == (4, 2)
    for row in silent:
        assert row["score"] == alone[row["id"]]["score"]
    assert json.loads((tmp_path / "out" / "metadata.json").read_text())["n_judged"] == 2
    for name in ("metadata.json", "report.json"):
        assert json.loads((tmp_path / "out" / name).read_text())["n_unanswered"] == 4
    assert "no score for 4 texts" in caplog.text


def test_three_failures_in_a_row_are_too_many_and_an_answer_starts_the_count_anew(tmp_path):
    with serve(faults={}) as server, asked_of(server, tmp_path) as judge:
        broken = Fault("status", status=400, message="no")
        server.fault_of = lambda prompt, nth: broken if "broken" in prompt else None
        answers = [judge(text) for text in ("broken 1", "broken 2", "a b c", "broken 3", "broken 4", "a b")]
        assert answers == [None, None, 3 / 5, None, None, 2 / 5]  # the server gives a point a word
        assert (judge("broken 5"), judge("broken 6")) == (None, None)
        with pytest.raises(ServerError, match="gives no scores"):
            judge("broken 7")


def test_what_is_no_score_is_asked_again_in_the_next_run(tmp_path):
    with serve(always=Fault("empty")) as server, asked_of(server, tmp_path) as judge:
        assert (judge("a b c"), judge("a b")) == (None, None)
    with serve() as server, asked_of(server, tmp_path) as judge:
        assert (judge("a b c"), judge("a b")) == (3 / 5, 2 / 5)
        assert sum(server.asked.values()) == 2


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ('<think>It is {"score": 1} or so.</think>{"score": 4}', 4 / 5),
        ('Perhaps {"score": 1}.\n</think>\n{"score": 4}', 4 / 5),
        ('{"score": 1}</think>{"score": 4}', 4 / 5),
        ('{"score": 4}<think>', None),
        ('<think>{"score": 1}', None),
        ('<think>{"score": 1}</think>', None),
    ],
)
def test_a_judges_thoughts_neither_hide_nor_are_its_score(said, score, tmp_path):
    for end in ("stop", "length"):
        line = json.dumps({"response": said, "done": True, "done_reason": end})
        with serve(always=Fault("page", status=200, message=line)) as server, asked_of(server, tmp_path / end) as judge:
            assert judge("Boil the rice.") == (score if end == "stop" else None)


def test_a_judge_that_only_thinks_is_given_up_with_the_setting_to_change(tmp_path):
    with serve(always=Fault("thinking")) as server, asked_of(server, tmp_path) as judge:
        assert (judge("a b c"), judge("a b")) == (None, None)
        with pytest.raises(ServerError, match="a thought and no text") as refusal:
            judge("a")
    assert "thinking off" in refusal.value.hint


@pytest.mark.parametrize(("longest", "context"), [(100, 2048), (5000, 3200), (500_000, 3700)])
def test_a_judges_context_is_for_the_longest_text_and_of_a_very_long_one_for_its_beginning(tmp_path, longest, context):
    with serve() as server:
        config = RefineConfig(input="", output="", judge="tiny", base_url=server.url)
        with asked(config, "rice dishes", ["short", "x" * longest], tmp_path / "judge.jsonl") as judge:
            judge("x" * longest)
            assert judge.server.endpoint.options["num_ctx"] == pytest.approx(context, rel=0.05)
        (prompt,) = server.asked
    assert prompt.count("x") == pytest.approx(min(longest, 6000), abs=5)


def test_a_judge_is_told_the_subject_and_waited_for_as_for_a_verdict(tmp_path):
    with serve() as server, asked_of(server, tmp_path) as judge:
        judge("Boil the rice.")
        (prompt,) = server.asked
        assert "rice dishes" in prompt
        assert prompt.endswith("Boil the rice.")
        limits = judge.server.endpoint.limits
        assert (limits.total_s, limits.first_token_s) == (10, 10)  # the seed document's, on a GPU; 30 are for writing


def test_another_models_answers_are_not_taken_for_this_ones(tmp_path, monkeypatch):
    for digest, n_asked in ((DIGEST, 1), (DIGEST, 0), ("f" * 64, 1)):
        monkeypatch.setattr(conformance_server, "DIGEST", digest)
        with serve() as server, asked_of(server, tmp_path) as judge:
            assert judge("Boil the rice.") == 3 / 5
            assert judge.digest == digest
            assert sum(server.asked.values()) == n_asked


def asked_of(server, folder):
    config = RefineConfig(input="", output="", judge="tiny", base_url=server.url, timeout_preset="gpu")
    return asked(config, "rice dishes", [], folder / "judge.jsonl")


def test_a_judge_that_is_not_there_or_gives_no_scores_is_told(tmp_path):
    source = corpus(tmp_path)
    settings = {"input": source, "prompt": "rice", "judge": "tiny", "plots": False, "output": tmp_path / "out"}
    with pytest.raises(ActlabError, match="does not answer"):
        refine_text(**settings, base_url="http://127.0.0.1:9")
    with serve(always=Fault("status", status=500, message="it is broken")) as server:
        with pytest.raises(ActlabError):
            refine_text(**settings, base_url=server.url)
    assert not (tmp_path / "out").exists()


def with_two_open(folder):
    """Documents of which a judge is asked about two."""
    path = corpus(folder)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:8]))
    return path


def flags_for(source, server, output, *more):
    settings = {"prompt": "rice dishes", "near-duplicates": 0, "min-score": 0, "judge": "tiny", "base-url": server.url}
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return ["refine-text", source, *flags, "--no-plots", "--output", output, "--quiet", *more]


NO = Fault("status", status=400, message="no")


def test_a_judge_that_scored_nothing_of_what_it_was_asked_about_seals_nothing(tmp_path):
    source = with_two_open(tmp_path)
    with serve(fault_of=lambda prompt, nth: NO if prompt else None) as server:
        done = run(*flags_for(source, server, tmp_path / "out"))
        assert sum(n for prompt, n in server.asked.items() if prompt) == 2, "less than would end the run"
        fails_in_two_lines(done, 1, "scored none of the 2 texts", "another --judge")
        assert not (tmp_path / "out").exists()
        server.fault_of = lambda prompt, nth: None
        assert run(*flags_for(source, server, tmp_path / "out")).returncode == 0
        samples = [json.loads(line)["text"] for line in source.read_text().splitlines()]
        server.fault_of = lambda prompt, nth: NO if prompt else None
        with pytest.raises(ServerError, match="scored none of the 2 texts"):
            DataRefiner("rice dishes", ollama_host=server.url).refine_samples(samples, None, True, "tiny")


def test_a_judge_that_scored_a_part_is_told_in_the_last_line_with_status_3_and_again(tmp_path, caplog):
    source = with_two_open(tmp_path)
    with serve(fault_of=lambda prompt, nth: NO if "and 2 pots" in prompt else None) as server:
        first = run(*flags_for(source, server, tmp_path / "out"))
        samples = [json.loads(line)["text"] for line in source.read_text().splitlines()]
        DataRefiner("rice dishes", ollama_host=server.url).refine_samples(samples, None, True, "tiny")
    assert "no score for 1 texts" in caplog.text
    again = run(*flags_for(source, server, tmp_path / "out"))
    as_json = run(*flags_for(source, server, tmp_path / "out", "--json"))
    for done in (first, again, as_json):
        assert done.returncode == 3
        assert done.stderr.splitlines()[-1] == (
            f"{tmp_path / 'out'}: 1 of 2 texts scored by the judge, 1 by their own score alone"
        )
    said = json.loads(as_json.stdout)
    assert (said["n_judged"], said["n_unanswered"]) == (1, 1)


def test_a_judge_that_was_not_needed_has_failed_nobody(tmp_path):
    source = corpus(tmp_path)
    lines = source.read_bytes().splitlines(keepends=True)
    source.write_bytes(b"".join(lines[:6]))
    with serve(fault_of=lambda prompt, nth: NO if prompt else None) as server:
        assert run(*flags_for(source, server, tmp_path / "out")).returncode == 0


def test_a_judge_is_told_of_no_subject_that_nobody_named(tmp_path):
    source = with_two_open(tmp_path)
    for prompt, n_versions in ((None, 1), ("rice dishes", 0)):
        with serve() as server:
            settings = {"input": source, "prompt": prompt, "judge": "tiny", "base_url": server.url, "plots": False}
            out = refine_text(**settings, min_score=0.0, near_duplicates=0.0, output=tmp_path / f"out-{prompt}").path
            asked_for = [one for one in server.asked if one]
        assert asked_for
        said = "as reading matter about: rice dishes." if prompt else "as reading matter. Start"
        assert all(said in one and "everyday" not in one for one in asked_for)
        identity = json.loads((out / "manifest.json").read_text())["identity"]
        assert len(identity.get("versions", {})) == n_versions, "what is asked as before is the same dataset"
