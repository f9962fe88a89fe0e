"""What is broken goes with its reason, what is good and new stays, and neither order nor copies change the choice."""

import hashlib
import itertools
import json
import logging
import math
import random
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from actlab.cli.refine_text import command
from actlab.formats.documents import Document, document_line, read_documents
from actlab.ground.errors import ConfigError, DataError, ModelError, StorageError
from actlab.ground.job import cost
from actlab.text import DataRefiner
from actlab.text.domains import GRAMMARS
from actlab.text.near_duplicates import (
    N_PERMUTATIONS,
    banding,
    miss_rate,
    near_duplicate_clusters,
    near_duplicates,
    shingles_of,
    signatures,
)
from actlab.text.refine import table
from actlab.text.refine.compute.figures import figures, label_coverage, openings, self_repetition
from actlab.text.refine.compute.gates import failed_gate
from actlab.text.refine.compute.repetition import repetition_fractions
from actlab.text.refine.compute.runs import runs_of
from actlab.text.refine.compute.score import Parts, moving_variety, parts_of, score_of, with_judge
from actlab.text.refine.compute.select import greedy, top
from actlab.text.refine.compute.shuffled import against_shuffled, auroc, shuffled
from actlab.text.refine.compute.verdicts import Settings, reasons, refine_documents
from actlab.text.refine.job import refine_text
from actlab.text.refine.subject import Topic, subject_of, topic_of
from actlab.text.templates.stems import stem
from actlab.text.words import words_of

SHORT = table.PRESETS["short"]
GOOD = "Stir the lentils into the warm broth, and let them rest until the table is set. Serve with bread and lemon."
few_words = st.lists(st.sampled_from(["stir", "the", "pot", "of", "lentils", "slowly"]), max_size=40)


def document(text: str, id_: str = "1", **labels) -> Document:
    return Document(id_, text, len(text.split()) + 1, "template", labels)


def invented(seed: int, n_words: int = 40, n_vocabulary: int = 300) -> str:
    """Text of made-up sentences with enough small words to look like language."""
    rng = random.Random(seed)
    words = [f"{rng.choice('bdfglmnprst')}{rng.choice('aeiou')}{'nrst'[number % 4]}o" for number in range(n_vocabulary)]
    words = sorted(set(words))
    picked = [
        rng.choice(["the", "of", "and", "to"]) if rng.random() < 0.3 else rng.choice(words) for _ in range(n_words)
    ]
    sentences = [" ".join(picked[start : start + 10]).capitalize() + "." for start in range(0, n_words, 10)]
    return " ".join(sentences)


# Gopher's fractions, the slow way: every run is laid out, every character that one covers is painted.


def painted(words: list[str], starts: list[int], n: int) -> float:
    inked = {place for start in starts for place in range(start, start + n)}
    return sum(len(words[place]) for place in inked) / sum(map(len, words))


def slow_fractions(words: list[str]) -> dict[str, float]:
    found = {}
    for n in range(2, 11):
        runs = [" ".join(words[start : start + n]) for start in range(len(words) - n + 1)]
        places = {run: [start for start, one in enumerate(runs) if one == run] for run in runs}
        if n < 5:
            most = max(map(len, places.values()), default=0)
            tops = [painted(words, starts, n) for starts in places.values() if len(starts) == most > 1]
            found[f"top_{n}gram"] = max(tops, default=0.0)
        else:
            again = [start for starts in places.values() for start in starts[1:]]
            found[f"duplicate_{n}gram"] = painted(words, again, n) if again else 0.0
    return {name: fraction for name, fraction in found.items() if fraction}


@given(few_words)
def test_fractions_of_repeated_runs_are_those_of_painting_every_run(words):
    assert repetition_fractions(" ".join(words)) == pytest.approx(slow_fractions(words))


def test_fractions_of_a_hand_worked_text():
    # 2 + 3 + 2 + 3 + 4 = 14 characters; "ab cde" twice covers 10 of them.
    assert repetition_fractions("ab cde ab cde fghi") == {"top_2gram": pytest.approx(10 / 14)}
    # Six words of one letter, said twice: the top run of 2 covers 4 of 12; of runs of 5, two begin in the second half.
    found = repetition_fractions("a b c d e f a b c d e f")
    assert found["top_2gram"] == pytest.approx(4 / 12)
    assert found["top_4gram"] == pytest.approx(8 / 12)
    assert found["duplicate_5gram"] == found["duplicate_6gram"] == pytest.approx(6 / 12)
    assert "duplicate_7gram" not in found
    # Overlapping occurrences paint a character once: Gopher's fraction never passes 1.
    assert repetition_fractions("no no no no")["top_2gram"] == 1.0


def test_fractions_of_repeated_lines_and_paragraphs_are_counted_by_hand():
    lines = "one line\nother\none line\n\nother\n\nother"
    found = repetition_fractions(lines)
    assert found["duplicate_lines"] == pytest.approx(1 - 2 / 5)  # of five lines with text, two are new
    assert found["duplicate_line_characters"] == pytest.approx(1 - (8 + 5) / (8 + 5 + 8 + 5 + 5))
    assert found["duplicate_paragraphs"] == pytest.approx(1 / 3)
    assert found["duplicate_paragraph_characters"] == pytest.approx(5 / (len("one line\nother\none line") + 5 + 5))


def test_a_run_that_occurs_once_is_no_repetition():
    words = ["Warm", "the", "butter", "gently", "and", "fold", "chopped", "parsley", "through"]
    once = sum(map(len, words[3:7])) / sum(map(len, words))
    assert once > table.TOP_NGRAM_LIMITS[4]
    assert repetition_fractions(" ".join(words)) == {}


@given(few_words, st.integers(1, 12))
def test_variety_is_the_mean_over_every_window(words, window):
    width = min(window, len(words))
    windows = [words[start : start + width] for start in range(len(words) - width + 1)] if words else []
    slow = sum(len(set(one)) / width for one in windows) / len(windows) if windows else 0.0
    assert moving_variety(words, window) == pytest.approx(slow)


# Near-duplicates.


def shingle_set(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    words += [""] * (3 - len(words))
    return {tuple(words[start : start + 3]) for start in range(len(words) - 2)}


def exact_overlap(one: str, other: str) -> float:
    a, b = shingle_set(one), shingle_set(other)
    return len(a & b) / len(a | b)


def with_changes(text: str, n_changes: int, seed: int) -> str:
    rng = random.Random(seed)
    words = text.rstrip(".").split()
    for place in rng.sample(range(len(words)), n_changes):
        words[place] = f"new{rng.randrange(10**6)}"
    return " ".join(words) + "."


def test_signatures_estimate_the_overlap_within_three_sigma():
    far = []
    for seed in range(300):
        one = invented(seed, 80)
        other = with_changes(one, seed % 25, seed)
        exact = exact_overlap(one, other)
        lowest_ip = signatures(shingles_of([one, other]))
        estimate = float(np.mean(lowest_ip[0] == lowest_ip[1]))
        sigma = math.sqrt(exact * (1 - exact) / N_PERMUTATIONS)
        far.append((estimate - exact) / sigma if sigma else float(estimate != exact))
    assert sum(abs(one) > 3 for one in far) <= 3  # 0.27 % of 300 is one; a fourth has a chance of 1 in 100
    assert abs(np.mean(far)) < 3 / math.sqrt(len(far))
    assert np.std(far) < 1.15


def test_a_signature_depends_on_its_text_alone():
    texts = [invented(seed) for seed in range(1200)] + ["Two words", "", "one"]
    together = signatures(shingles_of(texts))
    for place in (0, 599, 1199, 1200, 1201, 1202):
        assert (together[place] == signatures(shingles_of([texts[place]]))[0]).all()
    assert signatures(shingles_of([])).shape == (0, N_PERMUTATIONS)


def families(n: int) -> list[str]:
    """Texts, half of them changed copies of others by 0 to 9 words."""
    return [with_changes(invented(seed // 2, 60), (seed % 2) * (seed // 2 % 10), seed) for seed in range(n)]


def test_near_duplicates_are_those_of_brute_force_but_for_the_known_misses():
    texts, threshold = families(160), 0.7
    pairs = {
        (i, j): overlap
        for j in range(len(texts))
        for i in range(j)
        if (overlap := exact_overlap(texts[i], texts[j])) >= threshold
    }
    found = near_duplicates(texts, threshold)
    for j, match in enumerate(found):
        if match is not None:  # no false one, and its overlap is the exact one
            assert match.overlap == pytest.approx(pairs[match.original, j])
            assert found[match.original] is None
    missed = [pair for pair in pairs if found[pair[1]] is None and found[pair[0]] is None]
    expected = sum(miss_rate(overlap, banding(threshold)) for overlap in pairs.values())
    assert len(pairs) >= 30
    assert len(missed) <= expected + 3 * math.sqrt(expected)
    clusters = near_duplicate_clusters(texts, threshold)
    assert [clusters[i] == i for i in range(len(texts))] == [match is None for match in found]


def test_a_banding_misses_at_most_five_in_a_hundred_at_its_threshold():
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 1.0):
        n_bands, n_rows = banding(threshold)
        assert n_bands * n_rows <= N_PERMUTATIONS
        assert miss_rate(threshold, (n_bands, n_rows)) <= 0.05
    # FineWeb's 14 bands of 8 at 0.72, by hand: 0.72^8 = 0.0722, and 0.9278^14 = 0.350.
    assert miss_rate(0.72, (14, 8)) == pytest.approx(0.350, abs=1e-3)


def test_a_chain_of_near_duplicates_is_one_cluster_and_copies_of_one_text_too():
    one = invented(1, 60)
    two = with_changes(one, 3, 1)
    three = with_changes(two, 3, 2)
    assert exact_overlap(one, three) < 0.7 <= min(exact_overlap(one, two), exact_overlap(two, three))
    assert near_duplicate_clusters([three, "An egg.", one, two, one.upper(), two], 0.7) == [0, 1, 0, 0, 0, 0]
    kept = [match is None for match in near_duplicates([three, "An egg.", one, two, one.upper(), two], 0.7)]
    assert kept == [True, True, True, False, False, False]
    assert near_duplicate_clusters([one, one], 0) == near_duplicate_clusters([one, one], 1.1) == [0, 1]
    assert near_duplicates([], 0.7) == near_duplicate_clusters([], 0.7) == []


# Gates and score.


@pytest.mark.parametrize(
    ("reason", "text", "detail"),
    [
        ("empty", " \n\t", "white space"),
        ("mojibake", GOOD.replace("bread", "bre\ufffdd"), "U+FFFD"),
        ("mojibake", GOOD.replace("lemon", "crème fraîche").encode().decode("cp1252"), "'è'"),
        ("mojibake", GOOD.replace("the table", "the cook’s table").encode().decode("cp1252"), "'’'"),
        ("mojibake", GOOD.replace("bread", "bre\x07d"), "U+0007"),
        *(
            ("mojibake", GOOD.replace("bread", word.encode().decode("cp1252")), f"for '{meant}'")
            for word, meant in {"œuvre": "œ", "😀": "😀", "CAFÉ": "É", "crû": "û", "5 µg": "µ", "中文": "中文"}.items()
        ),
        ("mojibake", GOOD.replace("bread", "bre\ufffdd".encode().decode("cp1252")), "'\ufffd'"),
        ("teacher artefact", "Sure! Here are two simple recipes. " + GOOD, "Sure! Here are"),
        ("teacher artefact", "Of course! Here is a recipe for you. " + GOOD, "Of course! Here is a"),
        ("teacher artefact", "Certainly, here's a tale. " + GOOD, "Certainly, here's a"),
        ("teacher artefact", "Absolutely! Below is a tale. " + GOOD, "Absolutely! Below is"),
        ("teacher artefact", "Sure!\n\n" + GOOD, "Sure!"),
        ("teacher artefact", "I'm sorry, but I can't assist with that. " + GOOD, "I'm sorry"),
        ("teacher artefact", "I cannot fulfill this request. " + GOOD, "I cannot fulfill"),
        ("teacher artefact", "I'm sorry, I can't write about this subject. " + GOOD, "I'm sorry"),
        ("teacher artefact", "Of course! Here's how to boil rice. " + GOOD, "Of course! Here's how"),
        ("teacher artefact", GOOD + " I hope this helps!", "I hope this helps!"),
        ("teacher artefact", GOOD + "\n\nLet me know if you would like changes.", "Let me know if you would"),
        ("teacher artefact", "Here's a short recipe for you:\n\n" + GOOD, "Here's a short recipe"),
        ("teacher artefact", GOOD + " As an AI language model, I do not eat.", "As an AI"),
        ("teacher artefact", GOOD + "\n\nWord count: 24.", "Word count:"),
        ("teacher artefact", "```\n" + GOOD, "```"),
        ("teacher artefact", "<think> " + GOOD, "<think>"),
        ("too short", "Boil pasta.", "3 tokens of at least 8"),
        ("unfinished", GOOD + " Then take the", "Then take the"),
        ("repetition", "Stir the pot and wait. " * 5, "of its limit"),
    ],
)
def test_a_gate_names_its_reason(reason, text, detail):
    failed = failed_gate(document(text), SHORT)
    assert failed is not None
    assert failed.reason == reason
    assert detail in failed.detail


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD + ' "Sure," she said, "as you like."',
        "Here is where the river bends, and here the boats come in to rest for the night.",
        "Certainly the baker knew why the old clock in the hall had never told the hour.",
        GOOD + ' "Let me know if you find it," said Ana to the cook.',
        GOOD + ' "I hope this helps," she said.',
        GOOD + " 'I hope this helps.'",
        "“Of course! Here is a spoon,” said the cook. " + GOOD,
        "Of course, the boat was gone by then. " + GOOD,
        "Of course, I'll be glad of the bread. " + GOOD,
        "Absolutely. That was the word that the king said to all. " + GOOD,
        GOOD + ' "As an AI, I do not eat," said the robot.',
        "The sign on the wall of the hut said IRMÃ» and the cook did not know what it meant.",
        "Each residue buries a surface of 250 Å² in the core, of a cell with a volume of 900 Å³.",
        "Light of 5000 Å… or of 4000 Å – the cook of the house did not know which.",
        "He said that «il est allé…» was French, and that “café”— was a word of the house.",
        "把米饭放进锅里，加水，慢慢煮到软。然后盖上锅盖。",
        "चावल को पानी में उबालें। फिर दस मिनट रुकें।",
        "ماذا تريد أن تأكل مع الخبز في المساء اليوم؟",
        "Crème brûlée, jalapeño and a café's “best” cake cost 5 € — naïve, says Zoë, but it is the truth.",
        "Où est la crème? «Là», dit-elle, and the cook of the house went to look for it again.",
    ],
)
def test_good_text_passes_all_gates(text):
    assert failed_gate(document(text)._replace(n_tokens=24), SHORT) is None


# Each rule by hand: the form is the fourth root of the product of four.
FORMS = {
    "nothing amiss": ("the cat of Anna", 1.0),
    "a mean word of 2.4 letters, 0.4 of the way from 2 to 3": ("it is an elk the", 0.4),
    "a mean word of 2 letters": ("it is an ox to", 0.0),
    "a mean word of 9 letters, half way from 8 to 10": ("the extraordinarily", 0.5),
    "7 of 10 words with a letter, half way from 0.6 to 0.8": (
        "the house stood there with green doors 100 200 300",
        0.5,
    ),
    "of words with a letter one in four": ("12-34 1-2-3 ½5 with", 0.0),
    "3 symbols in 40 words, half way from 0.05 to 0.1": ("the house of stone " * 10 + "# ... …", 0.5),
    "one of two halves: no stop word, where one would do": ("green doors stood open", 1 / 2),
    "no stop word of two in 32 words": ("green doors stood open " * 8, 1 / 3),
    "one stop word of two in 33 words": ("green doors stood open " * 8 + "the", 2 / 3),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_form_of_hand_worked_texts(name):
    text, product = FORMS[name]
    assert parts_of(text, 30, SHORT, 256, Topic()).form == pytest.approx(product**0.25)


# A half for the text's end, three tenths for the lines' ends, a fifth for the density of marks.
PUNCTUATION = {
    "all": ("a title\nIt rained.", 0.5 + 0.3 + 0.2),  # half of the lines is enough, and so is a mark in four words
    "a mark, and no end": ("one two. three\nfour", 0.2),
    "one ended line of four": ("one two.\nthree four\nfive six\nseven eight", 0.15 + 0.2),
    "a quotation ends a line": ('he said "yes"\nso', 0.3 + 0.2 * (1 - 0.15 / 0.35)),  # 2 marks in 4 words
    "3 marks in 100 words": ("word " * 40 + "so, " + "word " * 40 + "so, " + "word " * 17 + "so.", 0.5 + 0.3 + 0.1),
    "more marks than words": ("no!!! no!!!", 0.5 + 0.3),
    "none": ("no marks at all", 0.0),
}


@pytest.mark.parametrize("name", PUNCTUATION)
def test_the_punctuation_of_hand_worked_texts(name):
    text, expected = PUNCTUATION[name]
    assert parts_of(text, 30, SHORT, 256, Topic()).punctuation == pytest.approx(expected)


@pytest.mark.parametrize(
    ("preset", "lengths", "fewest", "needs_end"),
    [
        ("short", {8: 0, 16: 0.5, 24: 1, 200: 1, 300: 0.5, 400: 0}, 8, True),
        ("story", {40: 0, 80: 0.5, 120: 1, 200: 1, 300: 0.5, 400: 0}, 40, True),
        ("web", {65: 0, 117: 0.8, 130: 1, 50_000: 1, 75_000: 0.5, 100_000: 0}, 65, False),
    ],
)
def test_what_a_preset_wants(preset, lengths, fewest, needs_end):
    one = table.PRESETS[preset]
    assert {n: parts_of(GOOD, n, one, 100, Topic()).length for n in lengths} == pytest.approx(lengths)

    def reason(text: str, n_tokens: int) -> str | None:
        failed = failed_gate(Document("1", text, n_tokens, "file", {}), one)
        return failed and failed.reason

    assert reason(GOOD, fewest) is None
    assert reason(GOOD, fewest - 1) == "too short"
    assert reason(GOOD + " Then take the", 200) == ("unfinished" if needs_end else None)
    assert reason("```\n" + GOOD, 200) == ("teacher artefact" if needs_end else None)


def test_a_text_of_the_domains_words_alone_says_nothing():
    topic = topic_of("", (), ["broth", "bread", "lemon"])
    words = ["broth", "bread", "lemon"] * 9 + ["and"] * 13  # 27 of 40: half way from 0.50 to 0.85
    assert parts_of(" ".join(words), 30, SHORT, 256, topic).relevance == pytest.approx(0.5)


def test_a_fraction_at_gophers_limit_scores_one_half_and_passes():
    at_limit = "xx yy xx yy " + " ".join("abcdefghijklmnop"[:8])  # 8 of 16 characters: 2.5 limits
    parts = parts_of(at_limit, 30, SHORT, 256, Topic())
    assert parts.repetition == 0.0
    half = "a b a b " + " ".join(f"{number:02d}" for number in range(8))  # "a b" covers 4 of 20 characters: 0.20
    assert parts_of(half, 30, SHORT, 256, Topic()).repetition == pytest.approx(0.5)
    assert failed_gate(document(half + "."), SHORT) is None


def test_weights_sum_to_one_and_the_score_is_their_geometric_mean():
    assert sum(table.WEIGHTS.values()) == pytest.approx(1)
    assert tuple(table.WEIGHTS) == Parts._fields
    parts = Parts(0.9, 0.8, 0.7, 0.6, 0.5, 0.0)
    by_hand = 0.9**0.15 * 0.8**0.15 * 0.7**0.20 * 0.6**0.25 * 0.5**0.10 * 0.01**0.15
    assert score_of(parts) == pytest.approx(by_hand)
    assert score_of(Parts(1, 1, 1, 1, 1, 1)) == 1


COOKING = topic_of(
    "simple recipes with lentils", ["recipe", "bake", "oven", "stir", "boil"], ["broth", "bread", "lemon"]
)
SCORES = {
    "good": GOOD,
    "no punctuation": re.sub(r"[.,]", "", GOOD).lower(),
    "off topic": "The train to the coast leaves at noon, and the guard waves to the children of the village.",
    "loop": "Stir the lentils and bake. " * 6,
    "stuffed": "Recipe bake oven stir boil recipe lentils, bake lentils oven recipe stir boil lentils bake oven.",
    "symbols": "# Stir ### the lentils # to ... broth # and ... bread # with ... lemon # the # end ... # of ... it.",
}


def test_the_score_tells_good_text_from_spoilt():
    scores = {
        name: score_of(parts_of(text, len(text.split()) + 5, SHORT, 256, COOKING)) for name, text in SCORES.items()
    }
    assert scores.pop("good") > 0.9
    assert max(scores.values()) < 0.7
    assert max(scores["off topic"], scores["loop"], scores["stuffed"]) < 0.5


def test_a_list_of_keywords_has_no_relevance_and_no_topic_asks_for_none():
    assert parts_of(SCORES["stuffed"], 20, SHORT, 256, COOKING).relevance == 0
    assert parts_of(SCORES["off topic"], 20, SHORT, 256, COOKING).relevance == 0
    assert parts_of(SCORES["off topic"], 20, SHORT, 256, Topic()).relevance == 1
    assert parts_of(SCORES["off topic"], 20, SHORT, 256, topic_of("the colour of owls")).relevance == 0.5
    assert parts_of("An owl has a colour of its own.", 20, SHORT, 256, topic_of("colours of owls")).relevance == 1


def test_a_document_longer_than_the_students_context_scores_lower():
    lengths = [parts_of(GOOD, n_tokens, SHORT, 64, Topic()).length for n_tokens in (8, 16, 24, 128, 192, 256)]
    assert lengths == [0, 0.5, 1, 1, 0.5, 0]  # the ramps by hand: 8 to 24 tokens, then two to four contexts


def test_the_judge_is_asked_only_in_the_uncertain_band():
    asked = []

    def judge(text: str) -> float:
        asked.append(text)
        return 0.9

    spoilt = SCORES["no punctuation"].capitalize() + ", the"
    documents = [document(GOOD, "1"), document(SCORES["stuffed"], "2"), document(spoilt + " end of it.", "3")]
    without = refine_documents(documents, Settings(topic=COOKING, min_score=0))
    refined = refine_documents(documents, Settings(topic=COOKING, min_score=0), judge)
    plain = {one.document.id: one.score for one in without.scored}
    between = [one.text for one in documents if one.id in plain and 0.35 < plain[one.id] < 0.80]
    assert sorted(asked) == sorted(between)
    for one in refined.scored:
        expected = plain[one.document.id] if one.judged is None else math.sqrt(plain[one.document.id] * 0.9)
        assert one.score == pytest.approx(expected)
    assert with_judge(0.64, 0.25) == pytest.approx(0.4)


def test_the_domains_own_words_are_no_other_domains():
    subject = subject_of(None, {"prompt": "simple recipes", "domain": "cooking"})
    assert (subject.prompt, subject.domain) == ("simple recipes", "cooking")
    assert subject.topic.keyword_stems
    assert not subject.topic.prompt_stems
    cooking, general = ((GRAMMARS / f"{name}.yaml").read_text() for name in ("cooking", "general"))
    assert "carrot" in cooking
    assert "carrot" not in general
    assert "carrot" in subject.topic.vocabulary_stems
    for word in ("harbour", "market"):
        assert word in cooking
        assert word in general
        assert stem(word) not in subject.topic.vocabulary_stems
    assert subject_of("owls", {"prompt": "recipes", "domain": "cooking"}).domain == "general"
    assert subject_of(None, {}).topic == Topic()


# Selection.


def slow_greedy(texts: list[str], scores: list[float]) -> list[int]:
    """Compare all that are left, at every step."""
    grams = [{tuple(words[k : k + 4]) for k in range(len(words) - 3)} for words in (text.split() for text in texts)]
    left, seen, order = list(range(len(texts))), set(), []

    def gain(i: int) -> float:
        share = len(grams[i] - seen) / len(grams[i]) if grams[i] else 0.0
        return scores[i] * share

    while left:
        best = max(left, key=lambda i: (gain(i), scores[i], -i))
        order.append(best)
        left.remove(best)
        seen |= grams[best]
    return order


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.sampled_from("abc"), max_size=9), st.sampled_from([0.5, 0.8, 1.0])), max_size=12))
def test_the_lazy_order_is_that_of_comparing_all_at_every_step(drawn):
    texts, scores = [" ".join(words) for words, _ in drawn], [score for _, score in drawn]
    assert list(greedy(texts, scores)) == slow_greedy(texts, scores)
    assert list(top(texts, scores)) == sorted(range(len(texts)), key=lambda i: (-scores[i], i))


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=8), max_size=8), st.integers(1, 4))
def test_runs_are_counted_as_sets_of_tuples_count_them(texts, n):
    runs = runs_of([" ".join(words) for words in texts], n)
    slow = [[tuple(words[k : k + n]) for k in range(len(words) - n + 1)] for words in texts]
    assert runs.n_occurrences == sum(map(len, slow))
    assert runs.n_distinct == len(set().union(*slow))
    assert [len(runs.of(i)) for i in range(len(texts))] == [len(set(one)) for one in slow]


def corpus(n: int = 500) -> list[Document]:
    """Documents of few frames and of many: those of few frames score a little higher."""
    rng = random.Random(5)
    nouns = [
        f"{a}{b}n" for a in ("ba", "do", "fe", "gi", "lu", "mo", "ra") for b in ("l", "m", "rto", "sti", "vo", "zi")
    ]
    frames = [
        "Take the {} to the {} and wait for the {} of the house, said the {}. Then the {} sang to us.",
        "In the garden of the {} we saw the {} and the {} at rest. The {} gave bread to the {}.",
    ]
    documents = []
    for number in range(n):
        if number % 2:
            text = rng.choice(frames).format(*rng.sample(nouns, 5))
        else:
            text = invented(number, 20).replace(".", ", 7 times.", 1)
        documents.append(document(text, f"{number:04d}", frame=number % 2, slots={"noun": text.split()[2]}))
    return documents


def test_with_two_fifths_of_the_tokens_greedy_says_more_that_is_new_at_nearly_the_same_score():
    documents = corpus()
    target = sum(one.n_tokens for one in documents) * 2 // 5
    taken, scores = {}, {}
    for select in ("greedy", "top"):
        refined = refine_documents(documents, Settings(select=select, tokens=target, near_duplicates=0))
        taken[select] = runs_of([one.document.text for one in refined.chosen], 4).n_distinct
        scores[select] = np.mean([one.score for one in refined.chosen])
    assert taken["greedy"] >= 1.15 * taken["top"]
    assert scores["greedy"] >= scores["top"] - 0.05


def test_each_document_is_chosen_once_or_rejected_with_a_known_reason():
    documents = [*corpus(60), *corpus(9), document("Boil pasta.", "x"), document(GOOD[:-9], "y")]
    refined = refine_documents(documents, Settings(tokens=300))
    ids = Counter([one.document.id for one in refined.chosen] + [one.document.id for one in refined.rejects])
    assert ids == Counter(one.id for one in documents)
    assert set(refined.n_rejects) <= set(reasons())
    n_tokens = [one.document.n_tokens for one in refined.chosen]
    assert sum(n_tokens) >= 300 > sum(n_tokens[:-1])


def test_of_near_duplicates_the_better_one_stays():
    worse = GOOD.replace("Stir", "Stir 55").replace("lemon.", "lemon, 7 7 7 7.")
    refined = refine_documents([document(worse, "1"), document(GOOD, "2")], Settings(near_duplicates=0.5))
    assert [one.document.id for one in refined.chosen] == ["2"]
    (reject,) = refined.rejects
    assert (reject.reason, reject.document.id) == ("near duplicate", "1")
    assert reject.detail == f"{exact_overlap(worse, GOOD):.2f} of 2"


# Figures.


def test_figures_are_those_counted_by_hand():
    documents = [document("a b a b c", "1", x=1), document("a b a b d", "2", x=2), document("e f", "3", x=1)]
    found = figures(documents, 0.2)
    assert found["distinct_1"] == pytest.approx(6 / 12)
    assert found["distinct_2"] == pytest.approx(5 / 9, abs=1e-6)  # ab ba bc bd ef of 4 + 4 + 1
    assert (found["distinct_4"], found["n_distinct_4"]) == (0.75, 3)
    assert found["self_repetition"] == pytest.approx(2 * math.log(2) / 3, abs=1e-6)  # "a b a b" is in one other each
    assert found["near_duplicate_rate"] == pytest.approx(1 / 3, abs=1e-6)
    (opening,) = openings(documents[1:2], documents)
    assert opening == {"opening": "a b a", "n": 1, "share": 1.0, "share_before": pytest.approx(2 / 3, abs=1e-6)}
    assert figures([], 0.7)["distinct_1"] is figures([], 0.7)["self_repetition"] is None
    assert self_repetition(runs_of([], 4)) is None


def test_coverage_names_the_values_of_labels_that_are_lost():
    before = [document("a", "1", x=1, slots={"hero": "Ann", "tags": ["u", "v"]}), document("b", "2", x=2)]
    assert label_coverage(before, before[1:]) == {
        "slots.hero": {"before": 1, "after": 0, "lost": ["Ann"]},
        "slots.tags": {"before": 2, "after": 0, "lost": ["u", "v"]},
        "x": {"before": 2, "after": 1, "lost": ["1"]},
    }


# On disk.


@pytest.fixture
def write(tmp_path):
    def write(documents, name="in", **metadata) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "documents.jsonl").write_bytes(b"".join(map(document_line, documents)))
        (folder / "metadata.json").write_text(json.dumps(metadata))
        return folder

    return write


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("documents.jsonl", "quality.parquet")}


@pytest.mark.parametrize("select", ["greedy", "top"])
def test_shuffling_and_copies_do_not_change_the_choice(select, write, tmp_path):
    documents = corpus(150)
    rng = random.Random(3)
    copies = [one._replace(id=f"copy-{one.id}") for one in rng.sample(documents, 30)]
    shuffled = rng.sample(documents, len(documents))
    more = rng.sample([*documents, *documents[:20], *copies], len(documents) + 50)
    made = []
    for number, each in enumerate((documents, shuffled, more)):
        output = tmp_path / f"out{number}"
        refine_text(input=write(each, str(number)), output=output, tokens=900, select=select, plots=False)
        made.append(output)
    assert bytes_of(made[0]) == bytes_of(made[1]) == bytes_of(made[2])
    assert (made[0] / "rejects.jsonl").read_bytes() == (made[1] / "rejects.jsonl").read_bytes()


def test_numbered_rows_give_the_same_texts_in_any_order_whatever_their_numbers(tmp_path):
    rng = random.Random(4)
    texts = [one.text for one in corpus(80)]
    variants = [text.replace(" ", "\n") for text in texts[:9]]
    chosen = []
    for number, each in enumerate((texts, rng.sample(texts * 2, 160), [*variants, *texts], [*texts, *variants])):
        path = tmp_path / f"{number}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in each))
        made = refine_text(input=path, output=tmp_path / f"out{number}", tokens=600, plots=False)
        chosen.append([one.text for one in read_documents(made.path)])
    assert chosen[0] == chosen[1]
    assert chosen[2] == chosen[3]


def test_the_beginning_of_a_choice_is_the_choice_for_a_smaller_target(write, tmp_path):
    folder = write(corpus(100))
    large = refine_text(input=folder, output=tmp_path / "large", tokens=1200, plots=False)
    small = refine_text(input=folder, output=tmp_path / "small", tokens=400, plots=False)
    lines = (large.path / "documents.jsonl").read_bytes().splitlines()
    assert (small.path / "documents.jsonl").read_bytes().splitlines() == lines[: small.n_documents]


def test_the_folder_holds_documents_scores_rejects_report_and_plots(write, tmp_path):
    documents = [*corpus(40), document("Boil pasta.", "x"), *corpus(2)]
    folder = write(documents, prompt="a house in a garden", tokenizer="mine")
    made = refine_text(input=folder, output=tmp_path / "out", min_score=0.2)
    metadata = json.loads((made.path / "metadata.json").read_text())
    assert (metadata["kind"], metadata["prompt"], metadata["tokenizer"]) == ("text", "a house in a garden", "mine")
    assert metadata["n_documents"] == made.n_documents == len(list(read_documents(made.path)))
    rejects = [json.loads(line) for line in (made.path / "rejects.jsonl").read_text().splitlines()]
    assert Counter(one["reason"] for one in rejects) == made.n_rejects
    assert made.n_rejects["exact duplicate"] == 2
    assert made.n_documents + len(rejects) == len(documents)
    quality = pq.read_table(made.path / "quality.parquet").to_pylist()
    assert [one["score"] for one in quality] == sorted((one["score"] for one in quality), reverse=True)
    for one in quality:
        assert one["score"] == pytest.approx(score_of(Parts(*(one[name] for name in Parts._fields))))
    ranked = {one["rank"]: one["id"] for one in quality if one["rank"]}
    assert [ranked[number] for number in sorted(ranked)] == [one.id for one in read_documents(made.path)]
    report = json.loads((made.path / "report.json").read_text())
    assert report["before"]["n_documents"] == len(documents)
    assert sum(report["scores"]["chosen"]) == made.n_documents
    assert (made.path / "plots" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_input_gives_the_same_folder_and_a_second_run_leaves_it(write, tmp_path):
    folder = write(corpus(40))
    files = []
    for name in ("one", "two", "two"):
        made = refine_text(input=folder, output=tmp_path / name, tokens=200)
        files.append({path.name: path.read_bytes() for path in made.path.rglob("*") if path.is_file()})
    assert files[0] == files[1] == files[2]
    with pytest.raises(StorageError, match="tokens"):
        refine_text(input=folder, output=tmp_path / "one", tokens=300)


def test_text2gpts_files_lie_beside_with_its_keys(write, tmp_path):
    folder = write(corpus(30), prompt="simple recipes", domain="cooking", tokenizer="mine")
    made = refine_text(input=folder, output=tmp_path / "out", export="text2gpt", min_score=0.1, plots=False)
    content = json.loads((tmp_path / "out-text2gpt" / "dataset.json").read_text())
    keys = """total_samples total_tokens average_tokens_per_sample creation_date tokenizer prompt domain
    generation_method generation_model refinement_model ollama_used quality_threshold"""
    assert list(content["metadata"]) == keys.split()
    assert content["metadata"]["total_tokens"] == made.n_tokens == sum(one["tokens"] for one in content["samples"])
    assert (content["metadata"]["domain"], content["metadata"]["generation_method"]) == ("cooking", "template")
    texts = [one.text for one in read_documents(made.path)]
    assert [one["text"] for one in content["samples"]] == texts
    listed = (tmp_path / "out-text2gpt" / "dataset.txt").read_text()
    assert re.split(r"=== Sample \d+ ===\n", listed)[1:] == [text + "\n\n" for text in texts]
    assert not list(made.path.glob("dataset.*"))


def byte_tokenizer(folder: Path, eos: str = "<eos>") -> str:
    """Save a tokenizer whose tokens are bytes, and return its folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos).save_pretrained(folder)
    return str(folder)


def test_plain_rows_are_counted_in_words_or_with_a_tokenizer(tmp_path, caplog):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": GOOD}) + "\n")
    with caplog.at_level(logging.WARNING):
        made = refine_text(input=tmp_path / "rows.jsonl", output=tmp_path / "words", plots=False)
    assert "words count" in caplog.text
    assert made.n_tokens == len(re.findall(r"\w+", GOOD))
    again = refine_text(input=made.path, output=tmp_path / "again", plots=False)
    for path in (made.path, again.path):
        assert json.loads((path / "metadata.json").read_text())["counted_in"] == "words"
    tokenizer = byte_tokenizer(tmp_path / "bytes")
    (planned,) = cost(refine_text, input=tmp_path / "rows.jsonl", output=tmp_path / "o", tokenizer=tokenizer)
    assert planned.n_tokens == len(GOOD.encode())


def test_all_documents_are_counted_in_one_unit(write, tmp_path):
    folder = write([*corpus(20), document(GOOD, "x")._replace(n_tokens=0)], tokenizer="mine")
    with pytest.raises(DataError, match="1 of 21 documents do not say") as raised:
        refine_text(input=folder, output=tmp_path / "out")
    assert "--tokenizer" in raised.value.hint
    tokenizer = byte_tokenizer(tmp_path / "bytes")
    made = refine_text(input=folder, output=tmp_path / "out", tokenizer=tokenizer, min_score=0, plots=False)
    for one in read_documents(made.path):
        assert one.n_tokens == len(one.text.encode())
    metadata = json.loads((made.path / "metadata.json").read_text())
    assert (metadata["tokenizer"], metadata["counted_in"]) == ("bytes", "tokens")


def test_a_result_is_known_by_its_tokenizer_wherever_that_lies(write, tmp_path, monkeypatch):
    folder = write(corpus(20))
    one, same = byte_tokenizer(tmp_path / "one"), byte_tokenizer(tmp_path / "two")
    common = {"input": folder, "output": tmp_path / "out", "min_score": 0.0, "plots": False}
    refine_text(**common, tokenizer=one)
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    refine_text(**common, tokenizer=same)
    monkeypatch.chdir(tmp_path)
    refine_text(**common, tokenizer="./one")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    byte_tokenizer(tmp_path / "one", eos="<end>")
    for run in (refine_text, partial(cost, refine_text)):
        with pytest.raises(StorageError, match="tokenizer_sha256"):
            run(**common, tokenizer=one)
        with pytest.raises(ModelError, match="no folder"):
            run(**common, tokenizer="./nosuch")


def test_a_result_is_known_by_the_metadata_that_it_took_its_facts_from(write, tmp_path):
    folder = write(corpus(20), prompt="a house", model="one")
    common = {"input": folder, "output": tmp_path / "out", "plots": False, "min_score": 0.0}
    refine_text(**common)
    inputs = json.loads((tmp_path / "out" / "manifest.json").read_text())["inputs"]
    assert [(one["role"], one["name"]) for one in inputs] == [
        ("documents", "documents.jsonl"),
        ("metadata", "metadata.json"),
    ]
    (folder / "metadata.json").write_text(json.dumps({"prompt": "a house", "model": "two"}))
    with pytest.raises(StorageError, match=r"metadata\.json"):
        refine_text(**common)


def test_a_dry_run_refuses_what_a_run_refuses(write, tmp_path):
    folder = write(corpus(20))
    for run in (refine_text, partial(cost, refine_text)):
        with pytest.raises(ConfigError, match="is the input"):
            run(input=folder, output=folder, overwrite=True)


def test_an_export_goes_where_nothing_else_is(write, tmp_path):
    folder, exported = write(corpus(20)), tmp_path / "out-text2gpt"
    common = {"input": folder, "output": tmp_path / "out", "min_score": 0.0, "plots": False, "export": "text2gpt"}
    exported.mkdir()
    (exported / "dataset.json").write_text('{"mine": true}')
    for run, overwrite in itertools.product((partial(cost, refine_text), refine_text), (False, True)):
        with pytest.raises(StorageError, match=r"dataset\.json is no file of an export"):
            run(**common, overwrite=overwrite)
    assert not (tmp_path / "out").exists()
    assert (exported / "dataset.json").read_text() == '{"mine": true}'
    (exported / "dataset.json").rename(exported / "notes.txt")
    with pytest.raises(StorageError, match=r"notes\.txt"):
        refine_text(**common)
    refine_text(**common, overwrite=True)
    (exported / "notes.txt").unlink()
    (exported / ".tmp-1234-dataset.json").write_bytes(b"{")  # a stop's
    (exported / "dataset.txt").unlink()
    refine_text(**common)
    assert (exported / "dataset.txt").read_text().startswith("=== Sample 1 ===")


def test_an_export_never_goes_into_a_dataset(write, tmp_path):
    folder = write(corpus(20))
    common = {"input": folder, "min_score": 0.0, "plots": False}
    refine_text(**common, output=tmp_path / "out-text2gpt")
    with pytest.raises(StorageError, match="inside the dataset"):
        refine_text(**common, output=tmp_path / "out", export="text2gpt", overwrite=True)
    (tmp_path / "file-text2gpt").touch()
    with pytest.raises(StorageError, match="is a file"):
        refine_text(**common, output=tmp_path / "file", export="text2gpt")


# Rows.


def rows(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        (b'{"text": "x", "labels": {"a": "\\ud800"}}', "half a surrogate", "UTF-8"),
        (b'{"text": "x", "labels": {"\\udfff": 1}}', "half a surrogate", "UTF-8"),
        (b'{"text": "x", "labels": {"a": [{"b": NaN}]}}', "no JSON", "NaN"),
        (b'{"text": "x", "labels": {"a": -1e999}}', "no JSON", "Infinity"),
        (b'{"text": "caf\xe9"}', "is not UTF-8", "UTF-8"),
        (b'{"text": "x", "n_tokens": "3"}', "has n_tokens", "n_tokens is a whole number"),
        (b'{"text": "x", "n_tokens": 1' + b"0" * 30 + b"}", "has n_tokens 1000", "no more than"),
        (b'{"text": "x", "labels": []}', "has labels", "labels is an object"),
    ],
)
def test_a_row_that_could_not_be_written_again_is_refused(line, message, hint, tmp_path):
    with pytest.raises(DataError, match=message) as raised:
        list(read_documents(rows(tmp_path / "rows.jsonl", b"", b'{"text": "fine"}', b" \r", line)))
    assert "line 4" in str(raised.value)
    assert hint in raised.value.hint


def test_blank_lines_are_no_rows_and_every_line_end_is_a_line_feed(tmp_path):
    path = rows(tmp_path / "rows.jsonl", b"", b'{"text": "a\\rb\\r\\nc\\n\\rd"}', b"  \t\r", b'{"text": "e"}')
    assert [(one.id, one.text) for one in read_documents(path)] == [("2", "a\nb\nc\n\nd"), ("4", "e")]


def test_an_empty_text_is_a_reject_here_and_an_error_to_others(tmp_path):
    path = rows(tmp_path / "rows.jsonl", b'{"text": ""}', b'{"text": " \\n"}', json.dumps({"text": GOOD}).encode())
    made = refine_text(input=path, output=tmp_path / "out", plots=False)
    assert made.n_rejects == {"exact duplicate": 1, "empty": 1}
    with pytest.raises(DataError, match="line 1 has no text"):
        list(read_documents(path))
    with pytest.raises(DataError, match="line 2 has no text"):
        list(read_documents(rows(path, b'{"text": ""}', b'{"id": "x"}'), allow_empty=True))


def test_rejects_of_one_id_are_told_apart_by_their_texts(write, tmp_path):
    bad = ["Boil pasta.", "Boil rice."]
    made = refine_text(input=write([document(text) for text in (*bad, GOOD)]), output=tmp_path / "out", plots=False)
    rejects = [json.loads(line) for line in (made.path / "rejects.jsonl").read_text().splitlines()]
    normal = [text.lower().encode() for text in bad]  # NFC, case folded, single spaces
    hashes = {hashlib.blake2b(text, digest_size=16).hexdigest() for text in normal}
    assert {one["hash"] for one in rejects} == hashes
    assert {one["id"] for one in rejects} == {"1"}


# In memory.


@pytest.mark.parametrize("target", [0, -5, math.nan, 1.5, "10"])
def test_a_refiner_wants_a_number_of_tokens(target):
    with pytest.raises(ConfigError, match="target_tokens"):
        DataRefiner("recipes").refine_samples([GOOD], target)


@pytest.mark.parametrize("samples", ["one text", [5], [None], [{"text": GOOD}]])
def test_a_refiner_wants_samples_or_texts(samples):
    with pytest.raises(TypeError, match="give a"):
        DataRefiner("recipes").refine_samples(samples, 10)


def test_a_target_out_of_reach_is_said_by_each_run_with_what_was_rejected(write, tmp_path, caplog):
    source = write([document(GOOD), document("No.", "2")])
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            refine_text(input=source, output=tmp_path / "o", tokens=900, plots=False)
        assert "of --tokens 900 (too short: 1)" in caplog.text
    assert json.loads((tmp_path / "o" / "metadata.json").read_text())["target"] == 900


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (GOOD + " Then take the", "--preset web"),
        (GOOD.replace("bread", "bre\ufffdd"), "encoding"),
        (GOOD.replace("bread", "bre\x1b[31md"), "control characters"),
        (GOOD + " I hope this helps!", "the text alone"),
        ("Boil pasta.", "--preset"),
        ("Stir the pot and wait. " * 5, "seed"),
        (" ", "the right file"),
        (SCORES["symbols"], "--min-score"),
    ],
)
def test_where_nothing_passes_the_hint_is_for_the_reason(text, hint, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in (text, text, text)))
    with pytest.raises(DataError, match="exact duplicate: 2, ") as raised:
        refine_text(input=path, output=tmp_path / "out", min_score=0.95)
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("content", "more", "error", "message"),
    [
        (None, {}, ConfigError, "there is no"),
        (b"", {}, DataError, "holds no document"),
        (b'{"text": "a"}\nnot json\n', {}, DataError, "line 2"),
        (b'{"text": "Boil pasta."}\n', {}, DataError, "too short: 1"),
        (b"", {"tokens": 0}, ConfigError, "--tokens 0"),
        (b"", {"context": 0}, ConfigError, "--context 0"),
        (b"", {"min_score": 1.5}, ConfigError, "--min-score 1.5"),
        *(
            (b"", {name: value}, ConfigError, f"--{name.replace('_', '-')} {value}")
            for name in ("near_duplicates", "min_score")
            for value in (-1.0, 5.0, math.inf, -math.inf, math.nan)
        ),
        (b"", {"preset": "novel"}, ConfigError, "novel"),
    ],
)
def test_bad_input_is_answered_in_two_lines(content, more, error, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error) as raised:
        refine_text(input=path, output=tmp_path / "out", **more)
    assert message in str(raised.value)
    assert raised.value.hint
    assert "\n" not in str(raised.value) + raised.value.hint
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_path_the_result_or_the_plan(write, tmp_path):
    folder = write(corpus(30))
    arguments = [str(folder), "--output", str(tmp_path / "out"), "--no-plots", "--quiet"]
    planned = CliRunner().invoke(command, [*arguments, "--dry-run"])
    assert "30 documents" in planned.stdout
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(command, arguments).stdout == f"{tmp_path / 'out'}\n"
    result = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).stdout)
    assert result["n_documents"] == len(list(read_documents(tmp_path / "out")))


# Against shuffled words.

some_scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(some_scores, some_scores)
def test_the_auroc_is_scikit_learns_ties_counted_half(positive, negative):
    labels = [1] * len(positive) + [0] * len(negative)
    assert auroc(positive, negative) == pytest.approx(roc_auc_score(labels, positive + negative))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD, r"[^\W_]+(?:['’\-][^\W_]+)*"),
        ("“Don’t re-heat it!” – she said (twice).\n\nIt was 5 o'clock.", r"[^\W_]+(?:['’\-][^\W_]+)*"),
        ("煮米饭, 别 忘了盐。", r"\w"),
    ],
)
def test_a_shuffled_copy_has_the_words_in_another_order_and_all_else_in_its_place(text, words):
    copy = shuffled(text, "a name")
    assert re.split(words, copy) == re.split(words, text)
    assert copy != text
    assert Counter(words_of(copy)) == Counter(words_of(text))
    assert copy == shuffled(text, "a name") != shuffled(text, "another name")


def test_the_report_tells_texts_from_their_shuffled_copies_as_the_score_does(write, tmp_path):
    documents = [document(invented(number), str(number)) for number in range(30)]
    made = refine_text(input=write(documents), output=tmp_path / "out", min_score=0, near_duplicates=0, plots=False)
    told = json.loads((made.path / "report.json").read_text())["against_shuffled"]
    hashes = {one["id"]: one["hash"] for one in pq.read_table(made.path / "quality.parquet").to_pylist()}

    def score(text: str, n_tokens: int) -> float:
        return score_of(parts_of(text, n_tokens, SHORT, 256, Topic()))

    kept = [one for one in documents if one.id in hashes]
    own = [score(one.text, one.n_tokens) for one in kept]
    copies = [score(shuffled(one.text, hashes[one.id]), one.n_tokens) for one in kept]
    expected = roc_auc_score([1] * len(own) + [0] * len(copies), own + copies)
    assert told == {"auroc": pytest.approx(expected, abs=1e-6), "n_documents": len(kept)}
    assert made.auroc_against_shuffled == told["auroc"]


def test_a_score_that_sees_word_order_would_be_told_by_it(monkeypatch):
    """The figure is of the score that is in force: one that knows its texts by heart gets 1."""
    documents = corpus(20)
    refined = refine_documents(documents, Settings(min_score=0, near_duplicates=0))
    known = {one.text for one in documents}
    whole = Parts(*[1.0] * len(Parts._fields))
    monkeypatch.setattr(
        "actlab.text.refine.compute.shuffled.parts_of",
        lambda text, *_: whole if text in known else whole._replace(form=0.0),
    )
    scored = [one._replace(parts=whole) for one in refined.scored]
    assert against_shuffled(scored, Settings()) == (1.0, len(scored))
    assert against_shuffled([], Settings()) == (None, 0)


def test_the_sample_is_bounded_and_does_not_depend_on_the_order(monkeypatch):
    monkeypatch.setattr("actlab.text.refine.compute.shuffled._MOST_TEXTS", 7)
    refined = refine_documents(corpus(30), Settings(min_score=0, near_duplicates=0))
    found = against_shuffled(refined.scored, Settings())
    assert found.n_documents == 7
    assert found == against_shuffled(refined.scored[::-1], Settings())


def test_a_folder_whose_report_lacks_the_figure_is_known_and_left(write, tmp_path):
    folder, output = write(corpus(30)), tmp_path / "out"
    made = refine_text(input=folder, output=output, plots=False)
    manifest = json.loads((output / "manifest.json").read_text())
    assert "versions" not in manifest["identity"]
    report = json.loads((output / "report.json").read_text())
    before = json.dumps({key: value for key, value in report.items() if key != "against_shuffled"}).encode()
    (output / "report.json").write_bytes(before)
    (entry,) = (one for one in manifest["files"] if one["path"] == "report.json")
    entry |= {"bytes": len(before), "sha256": hashlib.sha256(before).hexdigest()}
    (output / "manifest.json").write_text(json.dumps(manifest))
    assert refine_text(input=folder, output=output, plots=False) == replace(made, auroc_against_shuffled=None)
    assert (output / "report.json").read_bytes() == before


def test_the_command_says_what_the_score_cannot_tell(write, tmp_path, caplog):
    arguments = [str(write(corpus(30))), "--output", str(tmp_path / "out"), "--no-plots"]
    with caplog.at_level(logging.INFO, logger="actlab"):
        CliRunner().invoke(command, arguments)
    told = json.loads((tmp_path / "out" / "report.json").read_text())["against_shuffled"]["auroc"]
    assert f"AUROC against the same words shuffled is {told:.2f}" in caplog.text
