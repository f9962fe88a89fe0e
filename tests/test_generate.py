"""Text until a target is met, exactly counted, whatever the server does and wherever the run is stopped."""

import contextlib
import json
import logging
import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from itertools import islice, pairwise, product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer

import actlab
import actlab.text
from actlab.cli.generate_text import command
from actlab.formats.documents import Document, read_documents
from actlab.ground.errors import ConfigError, DataError, ModelError, StorageError
from actlab.ground.job import cost
from actlab.servers.calls import Reply, ServerError, Timings, Warmth
from actlab.servers.limits import TimeoutLimits
from actlab.servers.run import RunSummary, run_requests
from actlab.servers.server import Server
from actlab.text import DataGenerator, DataRefiner, Ollama, Sample, Template
from actlab.text.generate import collect, compute
from actlab.text.generate.compute import Collected, Replies
from actlab.text.generate.config import TARGETS, GenerateTextConfig
from actlab.text.generate.job import generate_text
from actlab.text.generate.prompts import requests
from actlab.text.generate.source import Source
from actlab.text.refine.compute import verdicts
from tests import conformance_server
from tests.command_line import fails_in_two_lines
from tests.command_line import run as run_command
from tests.conformance_server import DIGEST, MODEL, Conformance, Fault, serve

PROMPT = "simple recipes"
TIMES = re.compile(r'"[^"]*(date|time|_at|seconds|_s)"')
FEW = """
domain: few
skeletons: {one: "Ann sees #thing.a#.", two: "Bea sees #thing.a#."}
symbols: {thing: [cat, dog, owl]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty thousand tokens from a grammar."""
    return generate_text(prompt=PROMPT, tokens=20_000, output=str(tmp_path_factory.mktemp("made") / "a")).path


@pytest.fixture(scope="module")
def tokenizer(made: Path) -> str:
    """A student's tokenizer, so that not every run trains one."""
    return str(made / "tokenizer")


@pytest.fixture
def warnings_of(caplog: pytest.LogCaptureFixture):
    def warnings() -> str:
        return "\n".join(one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING)

    return warnings


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def metadata_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metadata.json").read_text())


def ask(there: Conformance, output: Path, tokenizer: str, api: str = "ollama", **more: Any) -> Path:
    settings = {"prompt": PROMPT, "tokens": 1500, "model": "tiny", "method": api, "concurrency": 1, "quiet": True}
    settings |= {"base_url": there.url, "tokenizer": tokenizer, "output": str(output), **more}
    return generate_text(**settings).path


def prompts_of(there: Conformance) -> list[str]:
    """The prompts by request, as the seed gives them."""
    config = GenerateTextConfig(prompt=PROMPT, output="x", method="ollama", model="tiny", base_url=there.url)
    return [one.prompt for one in islice(requests(config, Source(config).compiled), 300)]


def journal_of(output: Path) -> Path:
    return output.with_name(output.name + ".journal.jsonl")


def failing_from(first: int, there: Conformance, fault: Fault) -> None:
    """Let every request but the first ones fail."""
    good = set(prompts_of(there)[:first])
    there.fault_of = lambda prompt, nth: None if prompt in good else fault


# From a grammar


def test_twenty_thousand_tokens_are_met_by_at_most_one_document_more_and_hardly_repeat(made):
    documents = [json.loads(line) for line in (made / "documents.jsonl").read_text().splitlines()]
    counts = [document["n_tokens"] for document in documents]
    assert sum(counts) >= 20_000 > sum(counts[:-1])
    texts = [document["text"] for document in documents]
    assert len(set(texts)) > 0.99 * len(texts)
    words = " ".join(texts).lower().split()
    pairs = list(pairwise(words))
    assert len(set(pairs)) >= 0.10 * len(pairs)
    openings = Counter(" ".join(text.lower().split()[:3]) for text in texts)
    assert openings.most_common(1)[0][1] <= 0.05 * len(texts)
    assert all({"skeleton", "slots", "domain"} <= set(document["labels"]) for document in documents)
    assert {document["source"] for document in documents} == {"template"}


def test_every_count_is_the_saved_tokenizers_own(made):
    tokenizer = Tokenizer.from_file(str(made / "tokenizer" / "tokenizer.json"))
    for document in read_documents(made):
        assert document.n_tokens == len(tokenizer.encode(document.text, add_special_tokens=False).ids)


def test_a_seed_gives_the_same_bytes_again_and_another_seed_other_ones(made, tmp_path):
    again = generate_text(prompt=PROMPT, tokens=20_000, output=str(tmp_path / "again")).path
    other = generate_text(prompt=PROMPT, tokens=20_000, output=str(tmp_path / "other"), seed=1).path
    assert contents(again) == contents(made)
    assert contents(other)["documents.jsonl"] != contents(made)["documents.jsonl"]
    first, second = ({one.text for one in read_documents(path)} for path in (made, other))
    assert len(first & second) < 0.01 * len(first)


def test_metadata_counts_what_is_there_and_knows_no_time_and_no_path(made):
    metadata = metadata_of(made)
    documents = list(read_documents(made))
    assert metadata["n_documents"] == len(documents)
    assert metadata["n_tokens"] == sum(document.n_tokens for document in documents)
    assert metadata["sources"] == {"template": len(documents)}
    text = (made / "metadata.json").read_text()
    assert not TIMES.search(text)
    assert str(made.parent) not in text


@pytest.mark.parametrize(
    ("prompt", "domain", "evidence"),
    [
        ("simple recipes", "cooking", "recipes (cooking"),
        ("a history of maps", "general", "history (general"),
        ("zebras", "general", "no keyword"),
        ("poems of the sea", "poetry", "poems (poetry"),
    ],
)
def test_the_domain_is_said_with_its_evidence(prompt, domain, evidence, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "actlab"):
        made = generate_text(prompt=prompt, tokens=200, output=str(tmp_path / "out"))
    assert made.domain == domain
    (line,) = [one.getMessage() for one in caplog.records if one.getMessage().startswith("domain")]
    assert f"domain {domain}, by {evidence}" in line
    assert "margin" in line


@pytest.mark.parametrize(
    ("size", "target"), [(None, 30_000), ("small", 30_000), ("medium", 50_000), ("large", 100_000)]
)
def test_a_model_size_stands_for_the_seed_documents_targets(size, target):
    assert GenerateTextConfig(prompt="x", output="y", model_size=size).target == target


def test_a_grammar_of_ones_own_is_used_and_a_target_that_it_cannot_supply_is_refused_with_the_numbers(
    tmp_path, tokenizer
):
    grammar = tmp_path / "few.yaml"
    grammar.write_text(FEW)
    settings = {"prompt": "x", "grammar": str(grammar), "tokenizer": tokenizer, "output": str(tmp_path / "out")}
    with pytest.raises(ConfigError, match=r"5,000 tokens are about .* documents of .* it holds 6 texts") as refusal:
        generate_text(**settings, tokens=5000)
    assert re.search(r"at most \d+ tokens", refusal.value.hint)
    assert not (tmp_path / "out").exists()
    made = generate_text(**settings, tokens=3)
    (document,) = read_documents(made.path)
    assert re.fullmatch(r"(Ann|Bea) sees (a cat|a dog|an owl)\.", document.text)
    assert metadata_of(made.path)["domain"] == "few"


def test_a_run_that_is_done_is_not_made_again_and_other_settings_are_refused(made):
    before = (made / "documents.jsonl").stat().st_mtime_ns
    generate_text(prompt=PROMPT, tokens=20_000, output=str(made))
    assert (made / "documents.jsonl").stat().st_mtime_ns == before
    with pytest.raises(StorageError):
        generate_text(prompt=PROMPT, tokens=20_000, output=str(made), seed=2)


def test_settings_that_change_no_text_make_no_other_dataset(made, tokenizer, tmp_path, monkeypatch):
    before = (made / "documents.jsonl").stat().st_mtime_ns
    servers = {"temperature": 0.1, "max_tokens": 50, "fallback": "never"}
    generate_text(prompt=PROMPT, tokens=20_000, output=str(made), **servers)
    monkeypatch.setitem(TARGETS, "medium", 20_000)
    generate_text(prompt=PROMPT, model_size="medium", output=str(made))
    assert (made / "documents.jsonl").stat().st_mtime_ns == before
    grammar = tmp_path / "few.yaml"
    grammar.write_text(FEW)
    few = {"prompt": "x", "grammar": str(grammar), "tokenizer": tokenizer, "tokens": 3}
    for vocab_size in (4096, 1000):
        generate_text(**few, output=str(tmp_path / "few"), vocab_size=vocab_size)
    with serve() as there:
        ask(there, tmp_path / "asked", tokenizer, tokens=300)
        with pytest.raises(StorageError, match="temperature"):
            ask(there, tmp_path / "asked", tokenizer, tokens=300, temperature=0.1)


def test_a_target_that_server_and_grammar_do_not_meet_is_refused_and_the_servers_text_kept(tmp_path, tokenizer):
    grammar = tmp_path / "few.yaml"
    grammar.write_text(FEW)
    own = {"prompt": PROMPT, "grammar": str(grammar), "tokenizer": tokenizer, "model": "tiny"}
    with serve() as there:
        there.fault_of = lambda prompt, nth: Fault("status") if sum(there.asked.values()) > 2 else None
        with pytest.raises(DataError, match=r"only \d+ of 3000 tokens: the grammar of few") as refusal:
            ask(there, tmp_path / "out", **own, tokens=3000)
    assert "fewer tokens" in refusal.value.hint
    assert not (tmp_path / "out").exists()
    assert len(known_requests(tmp_path / "out")) == 5


def test_a_grammar_whose_texts_differ_in_case_alone_is_no_dataset(tmp_path, tokenizer):
    grammar = tmp_path / "case.yaml"
    words = ", ".join("".join(letters) for letters in product(*("aA", "bB", "cC", "dD", "eE", "fF", "gG", "hH")))
    grammar.write_text(f"domain: case\nskeletons: {{one: 'I see #word#.'}}\nsymbols: {{word: [{words}]}}")
    with pytest.raises((ConfigError, DataError)):
        generate_text(prompt="x", grammar=str(grammar), tokenizer=tokenizer, output=str(tmp_path / "out"), tokens=20)
    assert not (tmp_path / "out").exists()


# The command line


def test_the_command_prints_the_path_the_plan_or_json(tmp_path, tokenizer):
    def run(*more: str) -> str:
        done = CliRunner().invoke(
            command, [PROMPT, "--tokens", "500", "--output", "out", *more], catch_exceptions=False
        )
        assert done.exit_code == 0
        return done.stdout

    with CliRunner().isolated_filesystem(tmp_path):
        common = ["--tokenizer", tokenizer]
        plan = json.loads(run("--dry-run", "--json", *common))
        assert "500 tokens of cooking" in run("--dry-run", *common)
        assert list(Path().iterdir()) == []
        assert run(*common).strip() == "out"
        said = json.loads(run("--json", "--export", "text2gpt", *common))
        documents = list(read_documents(Path("out")))
        assert (said["n_documents"], said["sources"]) == (len(documents), {"template": len(documents)})
        assert 0.6 * len(documents) <= plan["n_documents"] <= 1.5 * len(documents)
        n_bytes = Path("out/documents.jsonl").stat().st_size
        assert 0.6 * n_bytes <= plan["n_bytes"] <= 1.5 * n_bytes
        content = json.loads(Path("out-text2gpt/dataset.json").read_text())
        assert content["samples"] == [{"text": one.text, "tokens": one.n_tokens} for one in documents]
        assert content["metadata"]["total_tokens"] == said["n_tokens"]
        assert content["metadata"]["generation_method"] == "template"
        assert content["metadata"]["ollama_used"] is False
        text = Path("out-text2gpt/dataset.txt").read_text()
        assert text.startswith(f"=== Sample 1 ===\n{documents[0].text}\n")


@pytest.mark.parametrize(
    "flags",
    [
        ["--tokens", "0"],
        ["--tokens", "1" + "0" * 400],
        ["--tokens", "10", "--model-size", "small"],
        ["--model-size", "huge"],
        ["--method", "magic"],
        ["--method", "ollama"],
        ["--method", "openai", "--model", "m"],
        ["--method", "ollama", "--model", "m", "--base-url", "ftp://here"],
        ["--method", "openai", "--model", "m", "--base-url", "http://a b"],
        ["--model", "m"],
        ["--base-url", "http://localhost:1"],
        ["--domain", "gardening"],
        ["--domain", "cooking", "--grammar", "x.yaml"],
        ["--grammar", "missing.yaml"],
        ["--grammar", "~nobody-of-this-name/x.yaml"],
        ["--tokenizer", "missing/folder"],
        ["--vocab-size", "10"],
        ["--seed", "-1"],
        ["--concurrency", "0"],
        ["--temperature", "nan"],
        ["--temperature", "9"],
        ["--max-tokens", "1"],
        ["--timeout-preset", "soon"],
        ["--fallback", "perhaps"],
        ["--export", "csv"],
        ["--tokens", "900000000"],
        ["--tokns", "5"],
    ],
)
def test_a_wrong_flag_is_said_in_two_lines_before_anything_is_written(flags, tmp_path, monkeypatch, capsys):
    from actlab.cli.main import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["generate-text", PROMPT, "--output", "out", "--quiet", *flags])
    assert stop.value.code in (1, 2)
    error, hint = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("Error: ")
    assert hint.startswith("Hint: ")
    assert not Path("out").exists()


@pytest.mark.parametrize("prompt", ["", "  ", "caf\udce9"])
def test_a_prompt_that_is_none_is_refused(prompt):
    with pytest.raises(ConfigError, match="prompt"):
        GenerateTextConfig(prompt=prompt, output="x")


# From a server


@pytest.mark.parametrize("api", ["ollama", "openai"])
def test_a_servers_text_meets_the_target_in_the_order_of_the_requests(api, tmp_path, tokenizer):
    with serve() as there:
        path = ask(there, tmp_path / "out", tokenizer, api)
        prompts = prompts_of(there)
    documents = list(read_documents(path))
    counts = [one.n_tokens for one in documents]
    assert sum(counts) >= 1500 > sum(counts[:-1])
    places = [one.labels["request"] for one in documents]
    name = MODEL if api == "ollama" else "tiny"  # Ollama alone tells the full name
    assert places == sorted(places)
    assert {(one.source, one.labels["model"]) for one in documents} == {(api, name)}
    assert [there.asked[prompt] for prompt in prompts[: places[-1] + 1]] == [1] * (places[-1] + 1)
    assert len(set(prompts)) == len(prompts), "every request is asked in words of its own"
    metadata = metadata_of(path)
    assert (metadata["model"], metadata["server_problem"]) == (name, None)
    assert metadata["model_digest"] == (DIGEST if api == "ollama" else "")
    assert there.url not in (path / "metadata.json").read_text()


def test_the_texts_are_the_servers_own(tmp_path, tokenizer):
    with serve() as there:
        path = ask(there, tmp_path / "out", tokenizer)
        prompts = prompts_of(there)
        seeds = {body["prompt"]: body["options"]["seed"] for body in there.bodies if body.get("prompt")}
    for one in read_documents(path):
        prompt = prompts[one.labels["request"]]
        assert one.text == "".join(conformance_server.tokens_of(prompt, seeds[prompt], 150)[0])


def test_one_at_a_time_and_eight_give_the_same_dataset_at_any_address(tmp_path, tokenizer):
    made = []
    for concurrency in (1, 8):
        with serve(token_delay_s=0.0002) as there:
            there.fault_of = lambda prompt, nth: Fault("eof", after=12) if len(prompt) % 5 == 0 else None
            made.append(contents(ask(there, tmp_path / f"c{concurrency}", tokenizer, concurrency=concurrency)))
    assert made[0] == made[1]


@pytest.mark.parametrize("concurrency", [1, 6])
def test_stopped_again_and_again_it_asks_for_nothing_twice_and_ends_with_the_same_bytes(
    concurrency, tmp_path, tokenizer, monkeypatch
):
    with serve() as there:
        whole = ask(there, tmp_path / "whole", tokenizer)
    output = tmp_path / "stopped"
    take, seen = Replies.take, Counter[str]()

    def stopping(self: Replies, reply: Reply) -> None:
        take(self, reply)
        seen["replies"] += 1
        if seen["replies"] >= seen["stop_at"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(compute.Replies, "take", stopping)
    with serve() as there:
        prompts = prompts_of(there)
        torn: set[int] = set()
        for stop_at in (1, 3, 4, 9, 20, 37):
            seen.update(replies=-seen["replies"], stop_at=stop_at - seen["stop_at"])
            known = set(known_requests(output))
            before = there.asked.copy()
            with pytest.raises(KeyboardInterrupt):
                ask(there, output, tokenizer, concurrency=concurrency)
            assert not output.exists()
            again = there.asked - before
            assert not [k for k in known if again[prompts[k]]]
            if stop_at in (4, 20):
                torn.add(list(known_requests(output))[-1])
                content = journal_of(output).read_bytes()
                journal_of(output).write_bytes(content[:-20])
        seen.update(stop_at=1_000_000)
        path = ask(there, output, tokenizer, concurrency=concurrency)
        assert contents(path) == contents(whole)
        if concurrency == 1:
            n_asked = [there.asked[prompt] for prompt in prompts]
            assert {k for k, n in enumerate(n_asked) if n > 1} == torn
            assert sorted(set(n_asked)) == [0, 1, 2]


def known_requests(output: Path) -> list[int]:
    """The requests of the journal's whole lines."""
    path = journal_of(output)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["k"] for line in lines]


def test_the_files_of_text2gpt_say_that_ollama_wrote(tmp_path, tokenizer):
    with serve() as there:
        path = ask(there, tmp_path / "out", tokenizer, tokens=300, export="text2gpt")
    metadata = json.loads((tmp_path / "out-text2gpt" / "dataset.json").read_text())["metadata"]
    assert metadata["ollama_used"] is True
    assert metadata["generation_model"] == MODEL
    assert metadata["total_tokens"] == metadata_of(path)["n_tokens"]


def test_a_file_of_ones_own_where_text2gpts_would_go_is_left_alone(tmp_path, tokenizer):
    own = tmp_path / "out-text2gpt" / "dataset.txt"
    own.parent.mkdir()
    own.write_text("my own")
    grammar = tmp_path / "few.yaml"
    grammar.write_text(FEW)
    settings = {"prompt": "x", "grammar": str(grammar), "tokens": 3, "tokenizer": tokenizer}
    settings |= {"output": str(tmp_path / "out")}
    for refusing in (partial(cost, generate_text), generate_text):
        with pytest.raises(StorageError, match=r"dataset\.txt"):
            refusing(**settings, export="text2gpt")
    assert own.read_text() == "my own"
    assert not (tmp_path / "out").exists()


@pytest.fixture
def limits(monkeypatch) -> list[TimeoutLimits]:
    """The limits that servers are given, in turn."""
    given: list[TimeoutLimits] = []
    monkeypatch.setattr(Server, "limited", lambda self, limits: given.append(limits) or self)
    return given


def test_a_server_is_waited_for_as_long_as_the_preset_or_its_gpu_says(tmp_path, tokenizer, limits, monkeypatch):
    with serve() as there:
        for preset in ("gpu", "cpu", "auto"):
            ask(there, tmp_path / preset, tokenizer, tokens=100, timeout_preset=preset)
        for timeouts in ("gpu", "cpu"):
            generator = DataGenerator(PROMPT, tokenizer, ollama_host=there.url, timeouts=timeouts)
            generator.generate_samples(100, Ollama("tiny"))
        monkeypatch.setattr(Server, "warm_up", lambda self, temperature: Warmth(0.1, on_gpu=True))
        ask(there, tmp_path / "on_gpu", tokenizer, tokens=100)
    assert [one.total_s for one in limits] == [30, 300, 300, 30, 300, 30], "as the seed document has it"


def test_requests_keep_the_interval_of_the_environment(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setenv("TEXT2GPT1_OLLAMA_REQUEST_INTERVAL", "0.001")
    intervals = []

    def run(*given: Any, interval_s: float, **more: Any) -> RunSummary:
        intervals.append(interval_s)
        return run_requests(*given, interval_s=interval_s, **more)

    monkeypatch.setattr(collect, "run_requests", run)
    with serve() as there:
        ask(there, tmp_path / "out", tokenizer, tokens=100)
    assert intervals == [0.001]


# When the server fails


def test_with_no_server_the_grammar_writes_it_where_that_was_asked_for_and_says_so(tmp_path, tokenizer, warnings_of):
    with serve() as gone:
        pass
    path = ask(gone, tmp_path / "out", tokenizer, fallback="always")
    metadata = metadata_of(path)
    assert metadata["n_tokens"] >= 1500
    assert set(metadata["sources"]) == {"template"}
    assert "does not answer" in metadata["server_problem"]
    assert "the grammar of cooking" in warnings_of()
    with pytest.raises(ServerError, match="does not answer"):
        ask(gone, tmp_path / "never", tokenizer, fallback="never")
    assert not (tmp_path / "never").exists()


def test_a_model_that_is_not_there_is_named_with_a_way_out(tmp_path, tokenizer):
    with serve() as there:
        with pytest.raises(ServerError, match="huge") as refusal:
            ask(there, tmp_path / "out", tokenizer, model="huge", fallback="never")
        assert "huge" in refusal.value.hint or MODEL in refusal.value.hint
        path = ask(there, tmp_path / "always", tokenizer, model="huge", fallback="always")
    assert set(metadata_of(path)["sources"]) == {"template"}
    assert "huge" in metadata_of(path)["server_problem"]


def test_after_three_failures_in_a_row_the_grammar_writes_the_remaining_tokens(tmp_path, tokenizer, warnings_of):
    with serve() as there:
        failing_from(10, there, Fault("status", status=500, message="it broke"))
        path = ask(there, tmp_path / "out", tokenizer)
        assert sum(there.asked.values()) == 13
    documents = list(read_documents(path))
    sources = [one.source for one in documents]
    assert sources[:10] == ["ollama"] * 10
    assert set(sources[10:]) == {"template"}
    counts = [one.n_tokens for one in documents]
    assert sum(counts) >= 1500 > sum(counts[:-1])
    metadata = metadata_of(path)
    assert metadata["sources"] == {"ollama": 10, "template": len(documents) - 10}
    assert metadata["left_out"] == {"reply: error": 3}
    assert "it broke" in metadata["server_problem"]
    assert "it broke" in warnings_of()


def test_without_fallback_a_broken_run_keeps_its_replies_and_goes_on_when_the_server_is_mended(tmp_path, tokenizer):
    with serve() as there:
        whole = ask(there, tmp_path / "whole", tokenizer, fallback="never")
    output = tmp_path / "out"
    with serve() as there:
        failing_from(10, there, Fault("status", status=500))
        with pytest.raises(ServerError, match=r"\d+ of 1500 tokens") as refusal:
            ask(there, output, tokenizer, fallback="never")
        assert "--retry-failed" in refusal.value.hint
        assert sorted(known_requests(output)) == list(range(13))
        there.fault_of = lambda prompt, nth: None
        n_asked = sum(there.asked.values())
        with pytest.raises(ServerError):
            ask(there, output, tokenizer, fallback="never")
        assert sum(there.asked.values()) == n_asked, "what failed is asked for again on request only"
        path = ask(there, output, tokenizer, fallback="never", retry_failed=True)
        prompts = prompts_of(there)
        assert [there.asked[prompt] for prompt in prompts[:14]] == [1] * 10 + [2] * 3 + [1]
    assert contents(path)["documents.jsonl"] == contents(whole)["documents.jsonl"]


def test_a_server_that_is_gone_on_the_second_run_takes_no_text_with_it(tmp_path, tokenizer, monkeypatch):
    output = tmp_path / "out"
    take = Replies.take

    def stopping(self: Replies, reply: Reply) -> None:
        take(self, reply)
        if reply.k == 11:
            raise KeyboardInterrupt

    with serve() as there, monkeypatch.context() as patched:
        patched.setattr(compute.Replies, "take", stopping)
        with pytest.raises(KeyboardInterrupt):
            ask(there, output, tokenizer)
    metadata = metadata_of(ask(there, output, tokenizer))
    assert metadata["sources"]["ollama"] == 12
    assert metadata["n_tokens"] >= 1500
    assert metadata["model_digest"] == DIGEST


@pytest.mark.parametrize("is_up", [True, False])
def test_another_model_never_gets_the_text_that_the_journal_has_of_the_first(is_up, tmp_path, tokenizer):
    output = tmp_path / "out"
    with serve() as there:
        ask(there, output, tokenizer)
        if is_up:
            ask(there, output, tokenizer, model="huge", overwrite=True, fallback="always")
    if not is_up:
        ask(there, output, tokenizer, model="huge", overwrite=True, fallback="always")
    metadata = metadata_of(output)
    assert set(metadata["sources"]) == {"template"}
    assert (metadata["model"], metadata["model_digest"]) == ("huge", "")


@pytest.mark.parametrize("content", ["{}", "[]", "3"])
def test_a_model_that_nobody_knows_any_more_gets_no_text_either(content, tmp_path, tokenizer):
    output = tmp_path / "out"
    with serve() as there:
        failing_from(3, there, Fault("status"))
        with pytest.raises(ServerError):
            ask(there, output, tokenizer, fallback="never")
    output.with_name("out.journal-server.json").write_text(content)
    with pytest.raises(ServerError, match="no text came from the model"):
        ask(there, output, tokenizer)
    assert set(metadata_of(ask(there, output, tokenizer, fallback="always"))["sources"]) == {"template"}


def test_a_broken_run_goes_on_to_the_same_bytes_whether_or_not_the_server_is_still_there(tmp_path, tokenizer):
    made = []
    for name in ("up", "gone"):
        with serve() as there:
            bad = prompts_of(there)[6:9]
            there.fault_of = lambda prompt, nth, bad=bad: Fault("status", status=500) if prompt in bad else None
            with pytest.raises(ServerError):
                ask(there, tmp_path / name, tokenizer, fallback="never", concurrency=6)
            there.fault_of = lambda prompt, nth: None
            if name == "up":
                made.append(contents(ask(there, tmp_path / name, tokenizer)))
        if name == "gone":
            with journal_of(tmp_path / name).open() as journal:
                places = [json.loads(line)["k"] for line in journal]
            assert set(range(9)) <= set(places)
            made.append(contents(ask(there, tmp_path / name, tokenizer)))
    assert made[0] == made[1]
    assert metadata_of(tmp_path / "gone")["sources"]["ollama"] == 6


def test_the_flags_of_the_warning_put_the_mended_servers_text_in_place_of_the_grammars(
    tmp_path, tokenizer, warnings_of
):
    output = tmp_path / "out"
    with serve() as there:
        undisturbed = contents(ask(there, tmp_path / "undisturbed", tokenizer))
    with serve() as there:
        failing_from(10, there, Fault("status", status=500))
        ask(there, output, tokenizer)
        fallback = contents(output)
        flags = re.findall(r"--([\w-]+)", warnings_of())
        assert sorted(flags) == ["overwrite", "retry-failed"]
        printed = {flag.replace("-", "_"): True for flag in flags}
        there.fault_of = lambda prompt, nth: None
        with pytest.raises(StorageError) as refusal:
            ask(there, output, tokenizer, retry_failed=True)
        assert "--overwrite" in refusal.value.hint
    with pytest.raises(ServerError, match="does not answer"):
        ask(there, output, tokenizer, **printed)
    assert contents(output) == fallback, "while the server is gone nothing is lost"
    ask(there, output, tokenizer)
    assert contents(output) == fallback, "and without the flags it is left as it is"
    with serve() as there:
        assert contents(ask(there, output, tokenizer, **printed)) == undisturbed
        n_asked = sum(there.asked.values())
        assert n_asked < undisturbed["documents.jsonl"].count(b"\n")
        ask(there, output, tokenizer, **printed)
        assert sum(there.asked.values()) == n_asked, "nothing is left to ask again"


def test_the_warnings_of_a_generator_name_no_flags(tokenizer, warnings_of):
    with serve() as there:
        failing_from(3, there, Fault("status", status=500))
        samples = DataGenerator(PROMPT, tokenizer, ollama_host=there.url).generate_samples(600, Ollama("tiny"))
    assert {one.source for one in samples} == {"ollama", "template"}
    assert "the grammar of cooking" in warnings_of()
    n = sum(one.source == "template" for one in samples)
    assert f"3 of {len(samples)} documents from the model, {n} from templates" in warnings_of()
    assert "--" not in warnings_of()


@pytest.mark.parametrize("max_tokens", [8, 150], ids=["cut by length", "whole"])
@pytest.mark.parametrize(("api", "setting"), [("ollama", "--max-tokens"), ("openai", "enable_thinking")])
def test_a_model_that_only_thinks_is_given_up_after_three_with_the_setting_to_change(
    api, setting, max_tokens, tmp_path, tokenizer
):
    with serve(always=Fault("thinking")) as there:
        with pytest.raises(ServerError, match="thought: ") as refusal:
            ask(there, tmp_path / "out", tokenizer, api, max_tokens=max_tokens)
        assert setting in refusal.value.hint
        assert "--fallback always" in refusal.value.hint
        assert len(there.asked) - (api == "openai") == 3, "the first of OpenAI's loads the model"
        path = ask(there, tmp_path / "out", tokenizer, api, max_tokens=max_tokens, fallback="always")
    assert metadata_of(path)["left_out"]["reply: thought"] == 3
    assert set(metadata_of(path)["sources"]) == {"template"}


THOUGHTS = {
    "closed": "<think>The user wants rice. Rice is {n}.</think>\n\nRice number {n} is good.",
    "opened by the prompt": "The user wants rice. Rice is {n}.\n</think>\n\nRice number {n} is good.",
}


def thinker(form: str):
    """Return a stand-in for the server's text: a thought, and a sentence that is new each time."""

    def tokens_of(prompt: str, seed: int, at_most: int) -> tuple[list[str], str]:
        return [form.format(n=seed)], "stop"

    return tokens_of


@pytest.mark.parametrize("form", THOUGHTS)
def test_thoughts_are_no_text_even_where_an_earlier_version_kept_them_in_the_journal(
    form, tmp_path, tokenizer, monkeypatch
):
    monkeypatch.setattr(conformance_server, "tokens_of", thinker(THOUGHTS[form]))
    output = tmp_path / "out"
    with serve() as there:
        first = ask(there, output, tokenizer, tokens=200)
        n_asked = sum(there.asked.values())
        kept = contents(first)["documents.jsonl"]
        assert all(re.fullmatch(r"Rice number \d+ is good\.", one.text) for one in read_documents(first))
        lines = [json.loads(line) for line in journal_of(output).read_text().splitlines()]
        for line in lines:  # as 0.2.0 wrote it
            number = re.search(r"\d+", line["text"])
            line["text"] = THOUGHTS[form].format(n=number[0])
        journal_of(output).write_text("".join(json.dumps(line) + "\n" for line in lines))
        shutil.rmtree(output)
        again = ask(there, output, tokenizer, tokens=200)
        assert sum(there.asked.values()) == n_asked
    assert contents(again)["documents.jsonl"] == kept


def test_a_thought_without_end_is_dropped_by_name_and_three_in_a_row_end_the_run(tmp_path, tokenizer, monkeypatch):
    real = conformance_server.tokens_of

    def tokens_of(prompt: str, seed: int, at_most: int) -> tuple[list[str], str]:
        tokens, reason = real(prompt, seed, at_most)
        return (["<think>", *tokens], "length") if seed % 3 else (tokens, reason)

    monkeypatch.setattr(conformance_server, "tokens_of", tokens_of)
    with serve() as there, pytest.raises(ServerError, match="unfinished reasoning, no text") as refusal:
        ask(there, tmp_path / "out", tokenizer)
    assert "--max-tokens" in refusal.value.hint
    replies = [json.loads(line) for line in journal_of(tmp_path / "out").read_text().splitlines()]
    assert [one["done_reason"] for one in replies[-3:]] == ["thought"] * 3
    monkeypatch.setattr(conformance_server, "tokens_of", lambda *asked: (["<think>", *real(*asked)[0]], "stop"))
    with serve() as there, pytest.raises(ServerError, match="0 of 1500 tokens"):
        ask(there, tmp_path / "only", tokenizer, "openai")


REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "As an AI language model, I don't cook.",
    "I cannot fulfill this request.",
]


def test_a_model_that_refuses_ten_times_in_a_row_is_given_up_and_no_refusal_is_a_document(
    tmp_path, tokenizer, monkeypatch
):
    real = conformance_server.tokens_of

    def tokens_of(prompt: str, seed: int, at_most: int) -> tuple[list[str], str]:
        return [f"{REFUSALS[seed % 3]} {''.join(real(prompt, seed, 40)[0])}"], "stop"

    monkeypatch.setattr(conformance_server, "tokens_of", tokens_of)
    with serve() as there:
        with pytest.raises(ServerError, match=r"the last 10 replies are refusals, e\.g\.") as refusal:
            ask(there, tmp_path / "out", tokenizer)
        assert sum(there.asked.values()) == 10
        assert "another model" in refusal.value.hint
        path = ask(there, tmp_path / "out", tokenizer, fallback="always")
    metadata = metadata_of(path)
    assert metadata["left_out"]["refusal"] == 10
    assert metadata["server_problem"].startswith("the last 10 replies are refusals, e.g. ")
    assert metadata["server_stalled"] is True
    assert ask(there, path, tokenizer, fallback="always", retry_failed=True) == path, "nothing is to be asked again"
    assert metadata_of(path) == metadata


def test_three_refusals_that_a_server_calls_so_end_the_run_even_after_text(tmp_path, tokenizer):
    choice = {"message": {"content": None, "refusal": "I cannot do it."}, "finish_reason": "stop"}
    refused = Fault("page", status=200, message=json.dumps({"choices": [choice]}))
    with serve() as there:
        failing_from(4, there, refused)
        with pytest.raises(ServerError, match=r"refused: I cannot do it\.") as refusal:
            ask(there, tmp_path / "out", tokenizer, "openai", tokens=600)
        path = ask(there, tmp_path / "out", tokenizer, "openai", tokens=600, fallback="always")
    assert "another model" in refusal.value.hint
    assert "--fallback always" in refusal.value.hint
    assert metadata_of(path)["left_out"] == {"reply: refusal": 3}
    assert not any("cannot do it" in one.text for one in read_documents(path))


def test_ten_replies_in_a_row_that_are_cut_before_a_sentence_ends_end_the_run_with_the_setting(
    tmp_path, tokenizer, monkeypatch
):
    monkeypatch.setattr(
        conformance_server, "tokens_of", lambda prompt, seed, at_most: ([f"rice {seed}", " and"], "length")
    )
    with serve() as there, pytest.raises(ServerError, match="the last 10 replies were cut by length") as refusal:
        ask(there, tmp_path / "out", tokenizer)
    assert sum(there.asked.values()) == 10
    assert "--max-tokens" in refusal.value.hint
    replies = Replies(Collected(1000), None, "ollama", MODEL)  # type: ignore[arg-type]
    for k in range(30):
        reason = "error" if k % 10 == 9 else "length"
        replies.take(Reply(k=k, text="", done_reason=reason, timings=Timings(total_s=0.1)))
        assert not replies.stalled, "ten, and in a row"


def test_a_dataset_of_a_model_that_repeated_itself_is_known_by_the_words_of_earlier_versions(
    tmp_path, tokenizer, monkeypatch
):
    def as_earlier(source: Source, collected: Collected, output: Path) -> collect.Asked:
        collected.fill(source.templates(), most=1000)
        return collect.Asked("tiny", "", "almost nothing new came any more")

    with serve() as gone:
        pass
    with monkeypatch.context() as patched:
        patched.setattr("actlab.text.generate.job.collect", as_earlier)
        path = ask(gone, tmp_path / "out", tokenizer, tokens=600)
    assert ask(gone, path, tokenizer, tokens=600, retry_failed=True) == path


@pytest.mark.parametrize("mark", ["\x1b[31m", "\x1b]0;own\x07", "\0", "\x9b", "\u202e", "\ud83d"])
def test_a_reply_with_control_characters_is_no_document_and_is_counted(mark, tmp_path, tokenizer, monkeypatch):
    real = conformance_server.tokens_of

    def tokens_of(prompt: str, seed: int, at_most: int) -> tuple[list[str], str]:
        tokens, reason = real(prompt, seed, at_most)
        return ([tokens[0], mark, *tokens[1:]] if seed % 3 == 0 else tokens), reason

    monkeypatch.setattr(conformance_server, "tokens_of", tokens_of)
    with serve() as there:
        path = ask(there, tmp_path / "out", tokenizer, tokens=300)
    journal = [json.loads(line)["text"] for line in journal_of(path).read_bytes().splitlines()]
    kept = mark.replace("\ud83d", "\ufffd")
    n_broken = sum(kept in text for text in journal)
    assert n_broken >= 2
    assert metadata_of(path)["left_out"]["reply: control characters"] == n_broken
    assert not any(kept in document.text for document in read_documents(path))


def test_what_repeats_the_login_is_in_no_file(tmp_path, tokenizer, monkeypatch):
    real = conformance_server.tokens_of
    password = "pass-word-of-ann"

    def tokens_of(prompt: str, seed: int, at_most: int) -> tuple[list[str], str]:
        tokens, reason = real(prompt, seed, at_most)
        return ([*tokens[:-1], f" {password}."] if seed % 3 == 0 else tokens), reason

    monkeypatch.setattr(conformance_server, "tokens_of", tokens_of)
    with serve() as there:
        url = there.url.replace("://", f"://ann:{password}@")
        path = ask(there, tmp_path / "out", tokenizer, tokens=300, base_url=url)
    assert metadata_of(path)["left_out"]["reply: secret"] >= 2
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert journal_of(path) in files
    assert not [file for file in files if password.encode() in file.read_bytes()]


def test_loading_a_model_asks_it_at_the_runs_own_temperature(tmp_path, tokenizer):
    with serve() as there:
        ask(there, tmp_path / "out", tokenizer, "openai", tokens=100, temperature=1.0)
    assert {body["temperature"] for body in there.bodies} == {1.0}


@pytest.mark.parametrize("prompt", ["...", "123 !", "🍕", "tea\x1b[31m", "tea \u202e"])
def test_a_prompt_without_letters_or_with_control_characters_is_a_usage_error(prompt):
    with pytest.raises(ConfigError, match=r"no letters|control character") as caught:
        GenerateTextConfig(prompt=prompt, output="x")
    assert str(caught.value).isprintable()


def test_a_tokenizer_of_the_grammars_text_is_warned_of_where_a_server_writes_in_another_script(warnings_of):
    def source(prompt: str, **more: Any) -> Source:
        return Source(GenerateTextConfig(prompt=prompt, output="x", domain="cooking", vocab_size=300, **more))

    served = {"method": "ollama", "model": "tiny"}
    for quiet in (
        source("рецепты"),
        source("Café recipes", **served),
        source("рецепты", tokenizer="actlab/tiny", **served),
    ):
        assert quiet.tokenizer
    assert not warnings_of()
    assert source("рецепты", **served).tokenizer
    assert "few of the prompt's letters" in warnings_of()
    assert "--tokenizer" in warnings_of()


REFUSED = "Unsupported value: 'temperature' does not support 0.8 with this model"


def flags_for(there: Conformance, output: Path, tokenizer: str, *more: str, api: str = "ollama") -> list[str]:
    settings = {"method": api, "model": "tiny", "base-url": there.url, "tokens": 600, "concurrency": 1}
    settings |= {"tokenizer": tokenizer, "output": output}
    flags = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    return ["generate-text", PROMPT, *flags, *more]


@pytest.mark.parametrize("api", ["ollama", "openai"])
@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault("status", status=502, message="bad gateway", headers={"Retry-After": "9000"}),
        Fault("status", status=400, message=REFUSED),
        Fault("empty"),
    ],
    ids=["gone", "502", "refused", "empty"],
)
def test_where_no_text_came_from_the_model_nothing_is_sealed_and_the_ways_out_are_named(
    api, fault, tmp_path, tokenizer
):
    output = tmp_path / "out"
    with serve(always=fault) as there:
        if fault is not None:
            done = run_command(*flags_for(there, output, tokenizer, "--quiet", api=api))
    if fault is None:
        done = run_command(*flags_for(there, output, tokenizer, "--quiet", api=api))
    fails_in_two_lines(done, 1, "no text came from the model", "--fallback always")
    assert "--method template" in done.stderr
    assert not output.exists()
    asked = run_command(*flags_for(there, output, tokenizer, "--quiet", "--fallback", "always", api=api))
    assert (asked.returncode, asked.stdout) == (0, f"{output}\n")
    assert set(metadata_of(output)["sources"]) == {"template"}


def test_a_run_without_any_text_goes_on_when_the_server_is_mended(tmp_path, tokenizer):
    with serve() as there:
        whole = ask(there, tmp_path / "whole", tokenizer, tokens=600)
    with serve(always=Fault("status", status=500)) as there:
        done = run_command(*flags_for(there, tmp_path / "out", tokenizer, "--quiet"))
        fails_in_two_lines(done, 1, "no text came from the model", "--retry-failed")
        assert known_requests(tmp_path / "out") == [0, 1, 2]
        there.always = None
        assert run_command(*flags_for(there, tmp_path / "out", tokenizer, "--quiet")).returncode == 0
        assert contents(tmp_path / "out") == contents(whole)
        prompts = prompts_of(there)
        assert [there.asked[prompt] for prompt in prompts[:4]] == [2, 2, 2, 1]


def test_text_that_is_partly_a_grammars_is_sealed_with_status_3_and_the_shares_in_the_last_line(tmp_path, tokenizer):
    output = tmp_path / "out"
    with serve() as there:
        failing_from(4, there, Fault("status", status=500))
        first = run_command(*flags_for(there, output, tokenizer))
    n = metadata_of(output)["n_documents"]
    assert metadata_of(output)["sources"] == {"ollama": 4, "template": n - 4}
    shares = f"4 of {n} documents from the model, {n - 4} from templates"
    again = run_command(*flags_for(there, output, tokenizer, "--quiet"))
    as_json = run_command(*flags_for(there, output, tokenizer, "--quiet", "--json"))
    for done in (first, again, as_json):
        assert done.returncode == 3
        assert done.stderr.splitlines()[-1] == f"{output}: {shares}"
    assert first.stdout == again.stdout == f"{output}\n"
    assert json.loads(as_json.stdout)["sources"] == {"ollama": 4, "template": n - 4}
    with serve() as there:
        failing_from(4, there, Fault("status", status=500))
        asked = run_command(*flags_for(there, tmp_path / "asked", tokenizer, "--fallback", "always"))
    assert asked.returncode == 0
    assert (tmp_path / "asked" / "documents.jsonl").read_bytes() == (output / "documents.jsonl").read_bytes()


def test_a_dataset_that_an_earlier_version_filled_from_a_grammar_alone_is_told_when_it_is_asked_for_again(
    tmp_path, tokenizer, monkeypatch
):
    def as_earlier(source: Source, collected: Collected, output: Path) -> collect.Asked:
        collected.fill(source.templates(), most=1000)
        return collect.Asked("tiny", "", "does not answer")

    with serve() as gone:
        pass
    with monkeypatch.context() as patched:
        patched.setattr("actlab.text.generate.job.collect", as_earlier)
        ask(gone, tmp_path / "out", tokenizer, tokens=600)
    n = metadata_of(tmp_path / "out")["n_documents"]
    done = run_command(*flags_for(gone, tmp_path / "out", tokenizer, "--quiet"))
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].endswith(f"0 of {n} documents from the model, {n} from templates")


@pytest.fixture
def parrot(monkeypatch):
    """A server that says one of three things."""

    def tokens_of(prompt: str, seed: int, at_most: int) -> tuple[list[str], str]:
        return [["One", " bird", "."], ["Two", " birds", "."], ["No", " bird", "."]][seed % 3], "stop"

    monkeypatch.setattr(conformance_server, "tokens_of", tokens_of)
    with serve() as there:
        yield there


def test_a_server_that_repeats_itself_is_given_up_after_ten_with_a_hint(parrot, tmp_path, tokenizer):
    with pytest.raises(ServerError, match="the last 10 replies are alike") as refusal:
        ask(parrot, tmp_path / "out", tokenizer)
    assert sum(parrot.asked.values()) == 10
    assert "--fallback always" in refusal.value.hint
    with pytest.raises(ServerError, match="the last 10 replies are alike"):
        ask(parrot, tmp_path / "out", tokenizer, concurrency=4, fallback="never")


def test_a_model_that_repeats_itself_is_given_up_as_well_when_its_server_is_gone(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(conformance_server, "tokens_of", lambda prompt, seed, at_most: (["One", " bird", "."], "stop"))
    with serve() as there, pytest.raises(ServerError, match=r"the last 10 replies are alike, e.g. 'One bird\.'"):
        ask(there, tmp_path / "out", tokenizer)
    with pytest.raises(ServerError, match="the last 10 replies are alike"):
        ask(there, tmp_path / "out", tokenizer)
    assert not (tmp_path / "out").exists()


def test_a_server_that_repeats_itself_is_filled_from_the_grammar_where_that_is_allowed(parrot, tmp_path, tokenizer):
    path = ask(parrot, tmp_path / "out", tokenizer, concurrency=4, fallback="always")
    documents = list(read_documents(path))
    assert {one.text for one in documents[:3]} == {"One bird.", "Two birds.", "No bird."}
    assert {one.source for one in documents[3:]} == {"template"}
    metadata = metadata_of(path)
    assert metadata["sources"]["ollama"] == 3
    assert metadata["left_out"]["exact duplicate"] == 7
    assert metadata["n_tokens"] >= 1500


def test_short_replies_are_no_stall_as_long_as_they_are_new():
    class Words:
        def count(self, text: str) -> int:
            return len(text.split())

    collected = Collected(1000)
    replies = Replies(collected, Words(), "ollama", MODEL)  # type: ignore[arg-type]
    for k in range(1000):
        assert not replies.stalled
        replies.take(Reply(k=k, text=f"word{k}", done_reason="stop", timings=Timings(total_s=0.1)))
    assert collected.is_met
    for k in range(200):
        replies.take(Reply(k=k, text=f"word{k % 20}", done_reason="stop", timings=Timings(total_s=0.1)))
    assert "almost nothing new" in replies.stalled


@pytest.mark.parametrize(
    ("texts", "ended"),
    [
        ([f"Rice, rice{mark}" for mark in ".!?.,:;-.…"], "alike"),
        (["RICE", "rice", "  rice\n", "Rice", "rIce", "*rice*", '"rice"', "rice", "ｒｉｃｅ", "rice."], "alike"),
        (["rice", "peas", "rice", "soup"] * 3, "alike"),
        (["rice"] * 9, ""),
        (["rice"] * 9 + ["peas", "soup", "tea"], ""),
        (["I'm sorry, but I can't help with that. " + word for word in "abcdefghij"], "refus"),
        ([f"I'm afraid I can't help with that{mark}" for mark in ".!;, -—:…."], "refus"),
        ([f"I'm not able to write that story. {word}" for word in "abcdefghij"], "refus"),
        ([f"I'm sorry, but I'm not comfortable writing that. {word}" for word in "abcdefghij"], "refus"),
        ([f"I apologize, but I won't be able to write that. {word}" for word in "abcdefghij"], "refus"),
        ([f"I'm sorry, but I cannot provide medical advice. {word}" for word in "abcdefghij"], "refus"),
        (["I can't help it.", "I'm sorry that the soup is cold.", "As an AI researcher, Ann cooked."] * 2, ""),
        *(
            ([f"{said} The fox saw {word} and ran home." for word in "abcdefghij"], "")
            for said in (
                '"I can\'t do that," said Tom.',
                '"I can\'t help with that request," said Tom.',
                "“I won't help you,” said the mule.",
                "‘I'm sorry, but I can't help with that,’ said the mule.",
                "I can't help with the dishes, I thought.",
                "I cannot answer that.",
                "Unfortunately, I cannot share my grandmother's recipe.",
                "I cannot write that story, thought Ann. " + "It rained on the town. " * 10,
            )
        ),
    ],
)
def test_ten_like_texts_or_refusals_are_seen_whatever_their_case_and_marks(texts, ended):
    class Words:
        def count(self, text: str) -> int:
            return len(text.split())

    replies = Replies(Collected(1000), Words(), "ollama", MODEL)  # type: ignore[arg-type]
    for k, text in enumerate(texts):
        replies.take(Reply(k=k, text=text, done_reason="stop", timings=Timings(total_s=0.1)))
    assert (ended in replies.stalled) if ended else not replies.stalled


def test_what_is_collected_is_the_shortest_prefix_without_repeats():
    collected = Collected(5)
    offered = [("a b", 2), ("A  b", 2), ("", 0), ("c d", 2), ("e f", 2), ("g h", 2)]
    taken = [collected.offer(Document(str(k), text, n, "file", {})) for k, (text, n) in enumerate(offered)]
    assert taken == [True, False, False, True, True, False]
    assert collected.n_tokens == 6
    assert collected.left_out == {"exact duplicate": 1, "empty": 1}


# In Python


def test_importing_the_package_of_text_is_light():
    code = (
        "import sys, actlab.text; print([m for m in ('torch', 'numpy', 'yaml', 'actlab.text.api') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert actlab.text.TextDataset.__module__ == "actlab.text.dataset"
    with pytest.raises(AttributeError, match="Datagenerator"):
        _ = actlab.text.Datagenerator


def test_a_generator_gives_what_the_command_writes(made, tokenizer):
    documents = list(read_documents(made))
    samples = DataGenerator(PROMPT, tokenizer).generate_samples(20_000, Template())
    assert [(one.text, one.tokens) for one in samples] == [(one.text, one.n_tokens) for one in documents]
    loaded = Tokenizer.from_file(str(made / "tokenizer" / "tokenizer.json"))
    from transformers import PreTrainedTokenizerFast

    own = PreTrainedTokenizerFast(tokenizer_object=loaded)
    (first, *_) = DataGenerator(PROMPT, own, seed=3).generate_samples(10)
    assert first.tokens == len(loaded.encode(first.text, add_special_tokens=False).ids)


def test_a_generator_asks_ollama_and_looks_whether_a_model_is_there(tokenizer, tmp_path):
    with serve() as there:
        generator = DataGenerator(PROMPT, tokenizer, ollama_host=there.url.removeprefix("http://"), timeouts="cpu")
        assert generator.check_ollama("tiny")
        assert not generator.check_ollama("huge")
        samples = generator.generate_samples(600, Ollama(gen_model="tiny", refine_model="tiny"))
        path = ask(there, tmp_path / "out", tokenizer, tokens=600)
    assert [one.text for one in samples] == [one.text for one in read_documents(path)]
    assert {one.source for one in samples} == {"ollama"}
    assert not generator.check_ollama("tiny"), "it is gone"
    with pytest.raises(ServerError, match="no text came from the model"):
        generator.generate_samples(100, Ollama("tiny"))
    samples = generator.generate_samples(100, Ollama("tiny", fallback="always"))
    assert {one.source for one in samples} == {"template"}


def test_wrong_settings_of_a_generator_are_the_users_to_mend():
    with pytest.raises(ConfigError):
        DataGenerator("").generate_samples(100)
    with pytest.raises(ConfigError):
        DataGenerator(PROMPT).generate_samples(0)
    with pytest.raises((ModelError, DataError, ConfigError)):
        DataGenerator(PROMPT, "missing/folder").generate_samples(10)


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt": None},
        {"prompt": 5},
        {"seed": "0"},
        {"seed": 1.5},
        {"seed": None},
        {"tokenizer": 5},
        {"tokenizer": object()},
        {"ollama_host": 5},
        {"timeouts": None},
        {"timeouts": "fast"},
    ],
)
def test_a_generators_setting_of_another_type_is_named(settings):
    with pytest.raises(ConfigError) as refusal:
        DataGenerator(**{"prompt": PROMPT, **settings}).check_ollama("tiny")
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("num_tokens", "method"),
    [("100", None), (None, None), (True, None), (1.5, None)]
    + [(100, method) for method in ("ollama", Ollama, Template, 5, Ollama(5), Ollama(None))],  # type: ignore[arg-type]
)
def test_a_number_or_a_method_that_is_none_writes_no_sample(num_tokens, method):
    with pytest.raises(ConfigError) as refusal:
        DataGenerator(PROMPT).generate_samples(num_tokens, method)
    assert refusal.value.hint


def test_a_refiner_chooses_each_text_once_up_to_the_target(tokenizer):
    samples = DataGenerator(PROMPT, tokenizer).generate_samples(3000)
    refiner = DataRefiner(PROMPT)
    refined = refiner.refine_samples([*samples, *samples, Sample("", 0)], target_tokens=1000)
    counts = [one.tokens for one in refined]
    assert sum(counts) >= 1000 > sum(counts[:-1])
    assert {one.text for one in refined} <= {one.text for one in samples}
    assert len({one.text for one in refined}) == len(refined)
    assert refiner.refine_samples(samples[::-1], 1000) == refined
    counted = DataRefiner(PROMPT, tokenizer).refine_samples([one.text for one in samples], 1000)
    assert [(one.text, one.tokens) for one in counted] == [(one.text, one.tokens) for one in refined]


@pytest.fixture
def all_open(monkeypatch):
    """No score is so good or so bad that a judge would not be asked."""
    monkeypatch.setattr(verdicts, "UNCERTAIN", (-1.0, 2.0))


def test_a_judge_is_asked_about_each_text_once_and_its_word_counts(tokenizer, all_open):
    samples = DataGenerator(PROMPT, tokenizer).generate_samples(2000)
    with serve() as there:  # it gives a text as many points as it has words, modulo 6
        refiner = DataRefiner(PROMPT, ollama_host=there.url)
        refined = refiner.refine_samples(samples, None, use_ollama=True, model="tiny")
    without = {one.text for one in samples if len(one.text.split()) % 6 == 0}
    assert without & {one.text for one in DataRefiner(PROMPT).refine_samples(samples, None)}
    assert refined
    assert not without & {one.text for one in refined}
    assert set(there.asked.values()) == {1}
    assert all(any(prompt.endswith(one.text) for prompt in there.asked) for one in refined)


def test_a_judge_that_gives_no_verdict_is_an_error_with_a_hint(tokenizer, all_open):
    samples = DataGenerator(PROMPT, tokenizer).generate_samples(500)
    with serve(always=Fault("empty")) as there:
        refiner = DataRefiner(PROMPT, ollama_host=there.url)
        with pytest.raises(ServerError, match="gives no scores") as refusal:
            refiner.refine_samples(samples, None, use_ollama=True, model="tiny")
        with pytest.raises(ConfigError, match="needs a model"):
            refiner.refine_samples(samples, None, use_ollama=True)
    assert refusal.value.hint


def test_a_judge_is_waited_for_as_long_as_the_preset_says(tokenizer, all_open, monkeypatch):
    limits = []
    monkeypatch.setattr("actlab.servers.server.Server.limited", lambda self, given: limits.append(given) or self)
    samples = DataGenerator(PROMPT, tokenizer).generate_samples(200)
    with serve() as there:
        for timeouts in ("gpu", "cpu"):
            refiner = DataRefiner(PROMPT, ollama_host=there.url, timeouts=timeouts)
            with contextlib.suppress(ServerError):  # the server here does not score
                refiner.refine_samples(samples, None, use_ollama=True, model="tiny")
    assert [one.total_s for one in limits] == [10, 60], "as the seed document has it"


def test_a_dataset_that_was_damaged_since_is_not_refined_or_tokenised(made, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(made, damaged)
    lines = (damaged / "documents.jsonl").read_bytes().splitlines(keepends=True)
    (damaged / "documents.jsonl").write_bytes(b"".join(lines[1:]))
    for run in (actlab.refine_text, actlab.tokenize_text):
        with pytest.raises(StorageError, match=r"damaged is damaged: documents\.jsonl"):
            run(input=damaged, output=tmp_path / "out")


def test_a_tokenizer_that_drops_merges_at_random_counts_the_same_each_time(made, tmp_path):
    shaky = tmp_path / "shaky"
    shutil.copytree(made / "tokenizer", shaky)
    content = json.loads((shaky / "tokenizer.json").read_text())
    content["model"]["dropout"] = 0.5
    (shaky / "tokenizer.json").write_text(json.dumps(content))
    for name, tokenizer in (("one", shaky), ("two", shaky), ("steady", made / "tokenizer")):
        generate_text(prompt=PROMPT, tokens=500, tokenizer=str(tokenizer), output=str(tmp_path / name), quiet=True)
    texts = {(tmp_path / name / "documents.jsonl").read_bytes() for name in ("one", "two", "steady")}
    assert len(texts) == 1
    assert run_command("verify", tmp_path / "one").returncode == 0


def test_a_refiner_says_why_nothing_passes(warnings_of):
    assert DataRefiner(PROMPT).refine_samples(["", "Stir"], None) == []
    assert "no sample passes: empty 1" in warnings_of()
