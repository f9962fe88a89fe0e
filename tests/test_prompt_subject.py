"""Text is measured against its prompt, and a model is asked for what the prompt asks for."""

import hashlib
import json
import logging
import re
from itertools import islice
from pathlib import Path

import pytest

from actlab.formats.documents import Document
from actlab.ground.errors import StorageError
from actlab.ground.job import cost
from actlab.text import DataGenerator, Ollama
from actlab.text.domains import AUTO, DOMAINS
from actlab.text.generate import job
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.generate.job import generate_text
from actlab.text.generate.prompts import requests
from actlab.text.generate.source import Source
from actlab.text.generate.subject import SubjectShare, measure, subject_words
from actlab.text.templates.read import domain_grammar
from tests import conformance_server
from tests.command_line import run as run_command
from tests.conformance_server import serve

RUSSIAN = """
domain: borscht
skeletons: {one: "Сегодня готовим #thing#.", two: "Вчера готовили #thing#."}
symbols: {thing: [борщ, суп, кашу]}
"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = generate_text(prompt="simple recipes", tokens=300, vocab_size=300, output=tmp_path_factory.mktemp("t") / "t")
    return str(made.path / "tokenizer")


def make(folder: Path, tokenizer: str, prompt: str, **more):
    settings = {"prompt": prompt, "tokens": 2000, "tokenizer": tokenizer, "output": folder / "out", **more}
    return generate_text(**settings)


def texts_of(folder: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (folder / "documents.jsonl").read_text().splitlines()]


def measured(prompt: str, n: int = 60, **more) -> tuple[list[str], SubjectShare]:
    """The grammar's first texts about a prompt, and what is measured of them."""
    source = Source(GenerateTextConfig(prompt=prompt, output="x", **more))
    texts = [source.compiled.generate(0, k).text for k in range(n)]
    return texts, measure(source.subject, [Document("x", text, 1, "template", {}) for text in texts])


@pytest.mark.parametrize(
    ("prompt", "words", "pattern"),
    [
        ("how to make pasta", ["pasta"], r"\bpastas?\b"),
        ("recipes with lentils", ["lentils"], r"\blentils?\b"),
        ("A short history of MAPS", ["history", "maps"], r"\b(history|histories|maps?)\b"),
        ("stories about bridges", ["bridges"], r"\bbridges?\b"),
        ("poems of the sea", ["sea"], r"\bseas?\b"),
        ("ＰＡＳＴＡ", ["pasta"], r"\bpastas?\b"),
        ("borscht, or борщ", ["borscht"], r"\bborscht\b"),
    ],
)
def test_the_share_of_documents_that_hold_a_word_of_the_prompt_is_measured(prompt, words, pattern):
    texts, found = measured(prompt)
    share = sum(bool(re.search(pattern, text, re.I)) for text in texts) / len(texts)
    assert found == (words, pytest.approx(share, abs=1e-6), None)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("simple recipes", "names the domain cooking and nothing in it"),
        ("Write 20 easy recipes for me, please", "names the domain cooking"),
        ("poetry", "names the domain poetry"),
        ("a short story", "names the domain general"),
        ("программирование на питоне", r"script \(Cyrillic\) that the grammar of general lacks"),
        ("x", "has no word that could be looked for"),
        ("a b 2020 ...", "has no word that could be looked for"),
        ("面条食谱", r"script \(CJK\)"),
        ("パスタの作り方", r"script \(.*Katakana\)"),
        ("नूडल", r"script \(Devanagari\)"),
        (
            "like something for everyone, without anything, within themselves",
            "names the domain general",
        ),
    ],
)
def test_a_prompt_without_a_subject_or_in_another_script_is_not_measured_and_says_why(prompt, reason):
    _, found = measured(prompt)
    assert found.subject_share is None
    assert re.search(reason, found.subject_unmeasured)


def test_the_measure_is_in_the_metadata_and_in_json_and_what_is_not_measured_is_said(tmp_path, tokenizer):
    flags = ["--tokens", 600, "--tokenizer", tokenizer, "--output"]
    for prompt, words, unmeasured in (("lentil dishes", ["lentil"], None), ("recipes", [], "names the domain cooking")):
        done = run_command("generate-text", prompt, *flags, tmp_path / prompt, "--json")
        texts = texts_of(tmp_path / prompt)
        share = sum("lentil" in text.lower() for text in texts) / len(texts) if words else None
        for said in (json.loads((tmp_path / prompt / "metadata.json").read_text()), json.loads(done.stdout)):
            assert said["subject_words"] == words
            assert said["subject_share"] == (share and pytest.approx(share, abs=1e-6))
            assert (said["subject_unmeasured"] or "").endswith(f"{unmeasured} and nothing in it" if unmeasured else "")
        assert "versions" not in json.loads((tmp_path / prompt / "manifest.json").read_text())["identity"]
    assert "not measured: the prompt names the domain cooking" in done.stderr


def test_a_grammar_of_ones_own_is_measured_in_its_own_script(tmp_path):
    grammar = tmp_path / "borscht.yaml"
    grammar.write_text(RUSSIAN, encoding="utf-8")
    texts, found = measured("борщ", grammar=str(grammar))
    assert found.subject_share == pytest.approx(sum("борщ" in text for text in texts) / len(texts), abs=1e-6)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("C programming", ["c"]),
        ("a guide to R", ["r"]),
        ("A plan b for what I do, by J. Smith of the U.S.", ["plan", "smith"]),
    ],
)
def test_a_letter_that_the_prompt_writes_large_is_a_word_and_an_initial_is_none(prompt, words):
    assert subject_words(prompt, domain_grammar("technical")) == words


def test_a_subject_in_a_script_without_spaces_is_not_measured(tmp_path):
    grammar = tmp_path / "dogs.yaml"
    grammar.write_text(
        "domain: dogs\nskeletons: {one: '一个男孩有一只#dog#。'}\nsymbols: {dog: [小狗, 大狗, dog]}", encoding="utf-8"
    )
    _, found = measured("一个关于茶的故事", grammar=str(grammar))
    assert found.subject_share is None
    assert "by spaces" in found.subject_unmeasured
    texts, found = measured("一个 dog", grammar=str(grammar))
    assert found == (["dog"], pytest.approx(sum("dog" in text for text in texts) / len(texts), abs=1e-6), None)


def test_what_names_something_in_a_domain_is_a_keyword_of_its_grammar():
    for domain in set(DOMAINS) - {AUTO}:
        assert set(domain.things.split()) <= set(domain_grammar(domain.name).keywords)


@pytest.fixture
def lunch(tmp_path) -> list[str]:
    """Flags for a grammar in which every second text is about pasta."""
    grammar = tmp_path / "lunch.yaml"
    grammar.write_text(
        "domain: lunch\nskeletons: {one: '#who# eats #what#.'}\nsymbols: {who: [Ann, Bea], what: [pasta, soup]}"
    )
    return ["--grammar", str(grammar)]


def test_below_a_half_the_share_is_a_warning_and_from_there_on_a_line_each_time(tmp_path, tokenizer, lunch):
    flags = ["--tokens", 9, "--tokenizer", tokenizer, "--output", tmp_path / "bread", *lunch, "--quiet"]
    for _ in range(2):
        done = run_command("generate-text", "how to bake bread", *flags)
        assert done.returncode == 0
        assert re.fullmatch(
            r"only 0 of \d documents hold .*subject \(bake, bread\): the grammar of lunch.*\n", done.stderr
        )
    flags = ["--tokens", 9, "--tokenizer", tokenizer, "--output", tmp_path / "half", *lunch]
    done = run_command("generate-text", "how to make pasta or soup", *flags)
    assert re.search(r"^(\d) of \1 documents hold a word of the prompt's subject \(pasta, soup\)$", done.stderr, re.M)
    assert run_command("generate-text", "how to make pasta or soup", *flags, "--quiet").stderr == ""


def test_a_plan_measures_a_sample_of_the_grammar_and_leaves_a_servers_text_open(tmp_path, tokenizer):
    flags = ["generate-text", "how to make pasta", "--tokenizer", tokenizer, "--output", tmp_path / "out", "--dry-run"]
    assert "about 0% of the documents" in run_command(*flags).stdout
    server = {"method": "ollama", "model": "tiny"}
    (cost_,) = cost(generate_text, prompt="how to make pasta", tokenizer=tokenizer, output=tmp_path / "out", **server)
    planned = cost_.details
    assert (planned["subject_words"], planned["subject_share"]) == (["pasta"], None)
    assert "server" in planned["subject_unmeasured"]


def test_a_models_text_is_measured_and_the_generators_samples_too(tmp_path, tokenizer, monkeypatch, caplog):
    def tokens_of(prompt: str, seed: int, at_most: int) -> tuple[list[str], str]:
        return (["Pastas ", f"{seed}"] if seed % 4 == 0 else ["Bread ", f"{seed}"]), "stop"

    monkeypatch.setattr(conformance_server, "tokens_of", tokens_of)
    with serve() as there:
        server = {"method": "ollama", "model": "tiny", "base_url": there.url, "tokens": 200}
        made = make(tmp_path, tokenizer, "how to make pasta", **server)
        assert "only" in caplog.text
        caplog.clear()
        DataGenerator("how to make pasta", tokenizer, ollama_host=there.url).generate_samples(200, Ollama("tiny"))
    texts = texts_of(made.path)
    assert made.subject_share == pytest.approx(sum(text.startswith("Pastas") for text in texts) / len(texts), abs=1e-6)
    assert 0 < made.subject_share < 0.5
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert warning.startswith("only ")
    assert "grammar" not in warning


def test_a_dataset_from_before_the_measure_is_the_same_dataset(tmp_path, tokenizer, monkeypatch, lunch):
    settings = {"prompt": "pasta", "tokens": 9, "tokenizer": tokenizer, "output": tmp_path / "a", "grammar": lunch[1]}
    with monkeypatch.context() as patched:
        patched.setattr(job, "measure", lambda *_: type("Nothing", (), {"_asdict": dict})())
        generate_text(**settings)
    assert "subject_share" not in (tmp_path / "a" / "metadata.json").read_text()
    made = generate_text(**settings)
    assert (made.subject_share, made.subject_words) == (None, [])
    assert "before this was measured" in made.subject_unmeasured
    assert run_command("verify", tmp_path / "a").returncode == 0


# What a model is asked for


def prompts_for(prompt: str, n: int = 300, **more) -> list[str]:
    config = GenerateTextConfig(prompt=prompt, output="x", method="ollama", model="tiny", **more)
    return [one.prompt for one in islice(requests(config, Source(config).compiled), n)]


def values_of(domain: str) -> set[str]:
    """All that a grammar can put into a slot."""
    grammar = domain_grammar(domain)
    forms = {text for values in grammar.variables.values() for row in values.rows for text in row}
    return {text for text in forms.union(*map(set, grammar.pools.values())) if text}


@pytest.mark.parametrize(
    ("prompt", "domain"),
    [
        ("a history of maps", "general"),
        ("a short story", "general"),
        ("dragons", "general"),
        ("how to make pasta", "cooking"),
        ("poems of the sea", "poetry"),
        ("python tutorials", "technical"),
    ],
)
def test_a_model_is_not_asked_for_words_of_a_grammar_that_are_foreign_to_the_prompt(prompt, domain):
    asked = prompts_for(prompt)
    assert len(set(asked)) == len(asked), "and still each in words of its own"
    assert all(f"following: {prompt}." in one for one in asked)
    assert not [one for one in asked if "Use these words" in one]
    named = {value for value in values_of(domain) if any(f" {value}, " in one or f" {value}." in one for one in asked)}
    assert len(named) <= 4, "words as plain as it, neighbour or memory"
    assert len({one.splitlines()[2] for one in asked}) >= 10, "what they look at varies"


def test_a_prompt_that_is_the_domain_itself_is_asked_in_the_words_that_it_always_was():
    text = "".join(prompts_for("simple recipes", 50))
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "d9727c279904a2b63d8870c0bffe1c4bef6abc79c60227b70a783a767ebb2c7a"  # of version 0.2.0
    )


def test_the_words_of_a_grammar_of_ones_own_are_asked_for(tmp_path):
    grammar = tmp_path / "own.yaml"
    grammar.write_text("domain: general\nskeletons: {one: 'See #what#.'}\npools: {what: [dunes, capes, fjords]}")
    asked = prompts_for("a history of maps", 30, grammar=str(grammar))
    assert all(re.search(r"Use these words: (dunes|capes|fjords)\.", one) for one in asked)


def test_text_that_was_asked_for_in_other_words_is_not_taken_for_the_same(tmp_path, tokenizer, monkeypatch):
    with serve() as there:
        server = {"method": "ollama", "model": "tiny", "base_url": there.url, "tokens": 200}
        for prompt, is_changed in (("dragons", True), ("simple recipes", False)):
            output = tmp_path / prompt
            with monkeypatch.context() as patched:  # as version 0.2.0 asked
                patched.setattr("actlab.text.generate.prompts.names_words", lambda *_: True)
                patched.setattr(job, "names_words", lambda *_: True)
                make(tmp_path, tokenizer, prompt, output=output, **server)
            if is_changed:
                with pytest.raises(StorageError, match=r"another version of actlab: versions"):
                    make(tmp_path, tokenizer, prompt, output=output, **server)
                n_asked = there.asked.total()
                make(tmp_path, tokenizer, prompt, output=output, overwrite=True, **server)
                assert there.asked.total() > n_asked, "the journal has no reply to what is asked now"
            else:
                before = (output / "documents.jsonl").stat().st_mtime_ns
                make(tmp_path, tokenizer, prompt, output=output, **server)
                assert (output / "documents.jsonl").stat().st_mtime_ns == before
