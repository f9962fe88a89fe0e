"""Patterns against plain Python over words, draws against enumerated sets, rows against what they promise."""

import itertools
import math
import os
import re
import subprocess
import sys
import tracemalloc
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actlab.ground.errors import DataError
from actlab.weights.patterns import PATTERN_NAMES, known
from actlab.weights.patterns.pattern import members, none_of, pattern
from actlab.weights.patterns.registry import PATTERNS, equivalents
from actlab.weights.patterns.space import Space
from actlab.weights.rows import RowSizes, draw_labelled, draw_others, draw_rows, too_small


def is_mountain(word):
    peak = word.index(max(word))
    up, down = word[: peak + 1], word[peak:]
    return up == "".join(sorted(up)) and down[::-1] == "".join(sorted(down))


def kinds(word):
    return re.sub("[^v]", "c", re.sub("[AEIOU]", "v", word))


IN_WORDS = {
    "all_same": lambda w: len(set(w)) == 1,
    "palindrome": lambda w: list(w) == list(reversed(w)),
    "sorted_ascending": lambda w: sorted(w) == list(w),
    "sorted_descending": lambda w: sorted(w, reverse=True) == list(w),
    "alternating": lambda w: w[0] != w[1] and w == (w[:2] * len(w))[: len(w)],
    "contains_abc": lambda w: "ABC" in w,
    "starts_with": lambda w: w.startswith("A"),
    "ends_with": lambda w: w.endswith("A"),
    "no_repeats": lambda w: len(set(w)) == len(w),
    "has_majority": lambda w: Counter(w).most_common(1)[0][1] >= len(w) // 2 + 1,
    "increasing_pairs": lambda w: all(a <= b for a, b in itertools.pairwise(w)),
    "decreasing_pairs": lambda w: all(a >= b for a, b in itertools.pairwise(w)),
    "vowel_consonant": lambda w: "vv" not in kinds(w) and "cc" not in kinds(w),
    "first_last_match": lambda w: w[0] == w[-1],
    "mountain_pattern": is_mountain,
}
EACH = pytest.mark.parametrize("name", list(IN_WORDS))


def words(tokens):
    return ["".join(chr(ord("A") + token) for token in row) for row in tokens.tolist()]


@lru_cache
def all_words(vocab_size, length):
    return ["".join(w) for w in itertools.product(Space(vocab_size, length).letters, repeat=length)]


def tokens_of(some_words):
    return np.array([[ord(letter) - ord("A") for letter in word] for word in some_words], dtype=np.uint8)


@lru_cache
def set_of(name, vocab_size, length):
    return {word for word in all_words(vocab_size, length) if IN_WORDS[name](word)}


# --- predicates and counts


def test_the_fifteen_come_in_the_documents_order():
    assert PATTERN_NAMES[:15] == PATTERNS.names[:15] == tuple(IN_WORDS)


@EACH
@pytest.mark.parametrize(("vocab_size", "length"), [(5, 4), (5, 5), (7, 4)])
def test_a_pattern_holds_for_just_the_words_that_plain_python_says(name, vocab_size, length):
    every = all_words(vocab_size, length)
    held = PATTERNS[name].holds(tokens_of(every), Space(vocab_size, length))
    assert held.dtype == bool
    assert {word for word, yes in zip(every, held, strict=True) if yes} == set_of(name, vocab_size, length)


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 26), st.integers(4, 20), st.integers(0, 2**32))
def test_a_pattern_holds_for_just_those_in_large_spaces_too(vocab_size, length, seed):
    # Members of every pattern, and the same with one letter changed: near misses among them.
    space, rng = Space(vocab_size, length), np.random.default_rng(seed)
    drawn = [one.draw(rng, 4, space) for one in PATTERNS if one.count(space)]
    tokens = np.concatenate(drawn * 2)
    changed = np.arange(len(tokens) // 2)
    tokens[changed, rng.integers(length, size=len(changed))] = rng.integers(vocab_size, size=len(changed))
    for name, one in zip(PATTERNS.names, PATTERNS, strict=True):
        assert one.holds(tokens, space).tolist() == [IN_WORDS[name](word) for word in words(tokens)], name


def test_starts_with_and_ends_with_ask_for_their_own_token():
    space = Space(5, 4, first_token=1, last_token=4)
    drawn = words(PATTERNS["starts_with"].draw(np.random.default_rng(0), 50, space))
    assert all(word.startswith("B") for word in drawn)
    drawn = words(PATTERNS["ends_with"].draw(np.random.default_rng(0), 50, space))
    assert all(word.endswith("E") for word in drawn)
    assert PATTERNS["starts_with"].holds(tokens_of(["BAAA", "ABBB"]), space).tolist() == [True, False]
    assert PATTERNS["ends_with"].holds(tokens_of(["AAAE", "EAAA"]), space).tolist() == [True, False]


@EACH
@pytest.mark.parametrize(("vocab_size", "length"), [(5, 4), (5, 5), (5, 6), (7, 4), (9, 4)])
def test_the_count_is_the_size_of_the_enumerated_set(name, vocab_size, length):
    assert PATTERNS[name].count(Space(vocab_size, length)) == len(set_of(name, vocab_size, length))


def ends_of_walks(start, step, n_steps):
    """Count the walks through an automaton by the state in which they end, as exact integers."""
    now = Counter(start)
    for _ in range(n_steps):
        after = Counter()
        for state, n in now.items():
            for new_state in step(state):
                after[new_state] += n
        now = after
    return now


def test_counts_in_the_largest_space_agree_with_automata():
    def mountain(state):
        letter, down = state
        up = [] if down else [(new, False) for new in range(letter, 26)]
        return up + [(new, True) for new in range(26) if new < letter or (down and new == letter)]

    def abc(n_read):
        if n_read == 3:
            return [3] * 26
        return [n_read + 1 if letter == n_read else int(letter == 0) for letter in range(26)]

    space = Space(26, 20)
    mountains = ends_of_walks({(letter, False): 1 for letter in range(26)}, mountain, 19).total()
    assert PATTERNS["mountain_pattern"].count(space) == mountains
    assert PATTERNS["contains_abc"].count(space) == ends_of_walks({0: 1}, abc, 20)[3]
    upward = ends_of_walks(range(26), lambda letter: range(letter, 26), 19).total()
    assert PATTERNS["sorted_ascending"].count(space) == PATTERNS["sorted_descending"].count(space) == upward
    assert PATTERNS["no_repeats"].count(space) == math.factorial(26) // math.factorial(6)
    # 5 vowels and 21 consonants, ten of each, either first.
    assert PATTERNS["vowel_consonant"].count(space) == 2 * 5**10 * 21**10
    # One letter's number among 20, as the coefficients of (25 + x)^20.
    coefficients = [1]
    for _ in range(20):
        coefficients = [25 * a + b for a, b in zip([*coefficients, 0], [0, *coefficients], strict=True)]
    assert PATTERNS["has_majority"].count(space) == 26 * sum(coefficients[11:])


# --- what is known about them


def test_equivalents_are_just_those_with_the_same_set():
    for name, other in itertools.permutations(IN_WORDS, 2):
        assert (other in equivalents(name)) == (set_of(name, 5, 5) == set_of(other, 5, 5)), (name, other)


def test_descriptions_are_the_documents_with_the_spaces_own_letters():
    seven = Space(7, 7, first_token=2)
    assert PATTERNS["palindrome"].describe(seven) == "Sequence reads same forwards and backwards"
    assert PATTERNS["starts_with"].describe(seven) == "Begins with specific token C"
    assert PATTERNS["ends_with"].describe(seven) == "Ends with specific token A"
    assert PATTERNS["increasing_pairs"].describe(seven) == "Each adjacent pair is in alphabetical order"
    alternates = PATTERNS["vowel_consonant"].describe
    assert alternates(seven) == "Alternates between vowels (A,E) and consonants (B,C,D,F,G)"
    assert alternates(Space(10, 4)) == "Alternates between vowels (A,E,I) and consonants (B,C,D,F,G,H,J)"
    assert len({one.describe(seven) for one in PATTERNS}) == len(PATTERNS.names)


def test_every_file_in_the_folder_is_a_pattern():
    files = {path.stem for path in Path(known.__file__).parent.glob("[!_]*.py")}
    assert files == set(PATTERN_NAMES) == set(PATTERNS.names)


def test_the_names_cost_no_heavy_import():
    code = (
        "import sys, actlab.weights.patterns as p; assert len(p.PATTERN_NAMES) >= 15; assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- draws


@EACH
@pytest.mark.parametrize("length", [4, 5])
def test_draws_are_uniform_over_the_enumerated_set(name, length):
    space, expected = Space(5, length), set_of(name, 5, length)
    n = 30 * len(expected)
    # The first of more, so that draws which come in some order would show.
    drawn = Counter(words(PATTERNS[name].draw(np.random.default_rng(5), 3 * n, space)[:n]))
    assert set(drawn) == expected
    assert stats.chisquare([drawn[word] for word in expected]).pvalue > 1e-3


def test_a_sequence_with_abc_twice_is_as_likely_as_the_others():
    space, n = Space(5, 6), 200_000
    drawn = Counter(words(PATTERNS["contains_abc"].draw(np.random.default_rng(3), n, space)))
    assert set(drawn) == set_of("contains_abc", 5, 6)
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3
    assert stats.binomtest(drawn["ABCABC"], n, 1 / len(drawn)).pvalue > 1e-3


def test_mountains_in_the_largest_space_peak_where_they_ought_to():
    # A mountain that peaks at m is one with letters up to m, less one with letters up to m - 1.
    below = [PATTERNS["mountain_pattern"].count(Space(vocab_size, 20)) for vocab_size in range(1, 27)]
    expected = np.diff(below, prepend=0)[15:] / below[-1]
    peaks = PATTERNS["mountain_pattern"].draw(np.random.default_rng(0), 20_000, Space(26, 20)).max(axis=1)
    observed = np.bincount(peaks, minlength=26)[15:]
    assert stats.chisquare(observed, expected.astype(float) / expected.sum() * observed.sum()).pvalue > 1e-3


@EACH
@pytest.mark.parametrize("vocab_size", [5, 26])
@pytest.mark.parametrize("length", [4, 20])
def test_draws_work_in_every_corner_and_list_no_space(name, vocab_size, length):
    space, one = Space(vocab_size, length), PATTERNS[name]
    if one.count(space) == 0:
        with pytest.raises(DataError, match=f"satisfies {name}"):
            one.draw(np.random.default_rng(0), 10, space)
        return
    tracemalloc.start()
    drawn = one.draw(np.random.default_rng(0), 1000, space)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (drawn.shape, drawn.dtype) == ((1000, length), np.uint8)
    assert drawn.max() < vocab_size
    assert one.holds(drawn, space).all()
    assert peak_bytes < 8e6
    assert one.draw(np.random.default_rng(0), 0, space).shape == (0, length)


def test_a_predicate_alone_makes_a_pattern():
    @pattern("B in second place")
    def second_is_b(tokens, space):
        return tokens[:, 1] == 1

    small, large = Space(5, 4), Space(7, 7)
    assert second_is_b.name == "second_is_b"
    assert second_is_b.count(small) == 5**3
    assert second_is_b.count(large) == pytest.approx(7**6, rel=0.1)
    drawn = second_is_b.draw(np.random.default_rng(0), 5000, small)
    assert stats.chisquare(list(Counter(words(drawn)).values())).pvalue > 1e-3
    assert second_is_b.holds(second_is_b.draw(np.random.default_rng(0), 500, large), large).all()


@pytest.mark.parametrize("space", [Space(5, 4), Space(7, 7)])
def test_members_that_are_remembered_cannot_be_written_into(space):
    with pytest.raises(ValueError, match="read-only"):
        members(PATTERNS["all_same"], space)[0] = 0


@pytest.mark.parametrize("name", ["all_same", "alternating", "palindrome", "sorted_descending"])
def test_all_members_of_a_small_pattern_are_found_in_a_space_too_large_to_list(name):
    found = words(members(PATTERNS[name], Space(7, 7)))
    assert len(set(found)) == len(found) == PATTERNS[name].count(Space(7, 7))
    assert all(IN_WORDS[name](word) for word in found)


# --- rows


def sizes(**changed):
    usual = {"target_total_examples": 400, "max_total_examples": 2500, "min_per_pattern": 10, "negative_ratio": 0.5}
    return RowSizes(**(usual | {"validation_split": 0.2, "test_set_size": 200} | changed))


def named(*names):
    return [PATTERNS[name] for name in names]


def check_rows(drawn, names, wanted):
    """Assert what rows promise, by plain Python."""
    everything = [word for rows in drawn for word in words(rows.tokens)]
    assert len(set(everything)) == len(everything)
    for rows in drawn:
        assert set(rows.patterns.tolist()) == {-1, *range(len(names))}
        assert rows.labels.tolist() == (rows.patterns >= 0).tolist()
        for word, index in zip(words(rows.tokens), rows.patterns.tolist(), strict=True):
            if index >= 0:
                assert IN_WORDS[names[index]](word)
            else:
                assert not any(IN_WORDS[name](word) for name in names)
    n_kept = len(drawn.train.labels) + len(drawn.validation.labels)
    n_positives = int(drawn.train.labels.sum() + drawn.validation.labels.sum())
    assert n_kept <= wanted.max_total_examples
    return n_kept, n_positives


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rows_keep_every_promise(data):
    vocab_size, length = data.draw(st.sampled_from([(5, 4), (7, 7), (5, 20), (26, 4), (26, 20), (9, 6)]))
    space = Space(vocab_size, length)
    large = [name for name in IN_WORDS if not too_small(PATTERNS[name], space) and "pairs" not in name]
    names = data.draw(st.lists(st.sampled_from(large), min_size=2, max_size=5, unique=True))
    wanted = sizes(
        target_total_examples=data.draw(st.integers(100, 600)),
        negative_ratio=data.draw(st.sampled_from([0.3, 0.5, 0.6])),
        test_set_size=data.draw(st.sampled_from([40, 100, 400])),
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    drawn = draw_rows(rng, named(*names), space=space, sizes=wanted)
    n_kept, n_positives = check_rows(drawn, names, wanted)
    assert n_kept <= max(wanted.target_total_examples, 10 * len(names) / (1 - wanted.negative_ratio)) + 1
    if length > 4:  # there are negatives enough
        assert n_kept - n_positives == pytest.approx(n_kept * wanted.negative_ratio, abs=1)
    assert len(drawn.validation.labels) == pytest.approx(n_kept * wanted.validation_split, abs=len(names) + 1)


def test_large_patterns_get_even_shares_and_whole_test_sets():
    names = ("starts_with", "palindrome", "mountain_pattern")
    drawn = draw_rows(np.random.default_rng(0), named(*names), space=Space(7, 7), sizes=sizes())
    n_kept, n_positives = check_rows(drawn, names, sizes())
    assert (n_kept, n_positives) == (400, 200)
    kept = np.concatenate([drawn.train.patterns, drawn.validation.patterns])
    assert sorted(Counter(kept.tolist()).values()) == [66, 67, 67, 200]
    assert Counter(drawn.validation.patterns.tolist()) == {0: 13, 1: 13, 2: 13, -1: 40}
    assert Counter(drawn.test.patterns.tolist()) == {0: 100, 1: 100, 2: 100, -1: 100}


def test_a_small_pattern_holds_out_a_quarter_and_gives_the_rest():
    names = ("palindrome", "alternating")  # 42 alternate, and all of them are palindromes
    drawn = draw_rows(np.random.default_rng(0), named(*names), space=Space(7, 7), sizes=sizes())
    n_kept, n_positives = check_rows(drawn, names, sizes())
    assert Counter(drawn.test.patterns.tolist()) == {0: 100, 1: 10, -1: 100}
    assert n_positives == 100 + 32
    assert n_kept == 2 * n_positives


def test_the_least_a_pattern_gets_and_the_most_of_all_are_kept():
    names = ("starts_with", "mountain_pattern")
    least = sizes(target_total_examples=20, min_per_pattern=60)
    assert check_rows(
        draw_rows(np.random.default_rng(0), named(*names), space=Space(7, 7), sizes=least), names, least
    ) == (
        240,
        120,
    )
    most = sizes(target_total_examples=900, min_per_pattern=60, max_total_examples=101, negative_ratio=0.3)
    n_kept, n_positives = check_rows(
        draw_rows(np.random.default_rng(0), named(*names), space=Space(7, 7), sizes=most), names, most
    )
    assert (n_kept, n_positives) == (100, 70)


@pytest.mark.parametrize("n_wanted", [30, 100])
def test_rows_are_uniform_whether_they_are_few_of_the_set_or_nearly_all(n_wanted):
    one, space = PATTERNS["palindrome"], Space(5, 5)  # 125 of them
    wanted = sizes(target_total_examples=2 * n_wanted, test_set_size=20)
    in_test, in_train = Counter(), Counter()
    for seed in range(300):
        drawn = draw_rows(np.random.default_rng(seed), [one], space=space, sizes=wanted)
        in_test.update(words(drawn.test.tokens[drawn.test.labels]))
        in_train.update(words(drawn.train.tokens[drawn.train.labels]))
    for seen in (in_test, in_train):
        assert set(seen) == set_of("palindrome", 5, 5)
        # Without replacement the counts are more even than a multinomial's: the test is on the safe side.
        assert stats.chisquare(list(seen.values())).pvalue > 1e-3


@pytest.mark.parametrize(
    ("vocab_size", "length", "own"),
    [(6, 5, ("mountain_pattern", "palindrome")), (5, 5, ("starts_with", "no_repeats")), (26, 20, ("starts_with",))],
)
def test_rows_of_other_patterns_satisfy_none_of_the_networks_own_and_are_nowhere_else(vocab_size, length, own):
    space = Space(vocab_size, length)
    large = [name for name in IN_WORDS if not too_small(PATTERNS[name], space)]
    others = {place: PATTERNS[name] for place, name in enumerate(large) if name not in own}
    drawn = draw_rows(np.random.default_rng(0), named(*own), space=space, sizes=sizes(target_total_examples=200))
    rows = draw_others(np.random.default_rng(1), others, own=tuple(named(*own)), drawn=drawn, space=space, n=50)
    assert not rows.labels.any()
    known = [word for part in drawn for word in words(part.tokens)]
    found = Counter()
    for word, place in zip(words(rows.tokens), rows.patterns.tolist(), strict=True):
        assert IN_WORDS[large[place]](word)
        assert not any(IN_WORDS[name](word) for name in own)
        found[large[place]] += 1
    assert len({*known, *words(rows.tokens)}) == len(known) + len(rows.labels)
    assert all(10 <= n <= 50 for n in found.values())
    if length < 10:  # count by hand those that have such rows
        for name in set(large).difference(own):
            free = {word for word in set_of(name, vocab_size, length) if not any(IN_WORDS[one](word) for one in own)}
            if not free:
                assert name not in found, "every one of its sequences is one of the network's own"
            if len(free.difference(known)) > 200:
                assert found[name] == 50


def test_rows_are_shuffled():
    drawn = draw_rows(np.random.default_rng(0), named("starts_with", "no_repeats"), space=Space(7, 7), sizes=sizes())
    for rows in drawn:
        assert stats.mannwhitneyu(np.flatnonzero(rows.labels), np.flatnonzero(~rows.labels)).pvalue > 1e-3


def test_the_same_generator_gives_the_same_rows_in_every_process():
    code = (
        "import hashlib, numpy as np; from actlab.weights.rows import *;"
        "from actlab.weights.patterns.registry import PATTERNS;"
        "sizes = RowSizes(target_total_examples=300, max_total_examples=900, min_per_pattern=5, negative_ratio=0.5,"
        " validation_split=0.2, test_set_size=100);"
        "chosen = [PATTERNS[n] for n in ('alternating', 'palindrome', 'contains_abc')];"
        "drawn = draw_rows(np.random.default_rng(7), chosen, space=Space(7, 7), sizes=sizes);"
        "print(hashlib.sha256(b''.join(a.tobytes() for rows in drawn for a in rows)).hexdigest())"
    )
    ran = [
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert len(ran[0].stdout) > 60
    assert ran[0].stdout == ran[1].stdout


def test_too_small_is_what_cannot_hold_out_ten_in_a_quarter():
    seven = Space(7, 7)
    assert [name for name in IN_WORDS if too_small(PATTERNS[name], seven)] == ["all_same"]
    assert PATTERNS["alternating"].count(seven) == 42
    assert too_small(PATTERNS["no_repeats"], Space(5, 7))


def test_a_pattern_that_cannot_be_in_every_split_is_refused():
    with pytest.raises(DataError, match="no_repeats: 0 sequences"):
        draw_rows(np.random.default_rng(0), named("no_repeats"), space=Space(5, 6), sizes=sizes())
    both = named("sorted_ascending", "increasing_pairs")  # the second finds nothing left
    with pytest.raises(DataError, match="increasing_pairs"):
        draw_rows(np.random.default_rng(0), both, space=Space(5, 4), sizes=sizes())


def test_negatives_too_rare_to_find_are_refused_by_the_patterns_names():
    @pattern("Anything at all")
    def anything(tokens, space):
        return tokens[:, 0] < 255

    for space in (Space(5, 4), Space(7, 7)):
        with pytest.raises(DataError, match="none of anything, palindrome"):
            draw_rows(np.random.default_rng(0), [anything, PATTERNS["palindrome"]], space=space, sizes=sizes())


def test_negatives_that_are_few_are_all_found():
    @pattern("Not all same, or A")
    def nearly_all(tokens, space):
        return (tokens != tokens[:, :1]).any(axis=1) | (tokens[:, 0] == 0)

    assert sorted(words(members(none_of((nearly_all,)), Space(5, 4)))) == ["BBBB", "CCCC", "DDDD", "EEEE"]


# --- labelled rows for signatures


def test_labelled_rows_are_balanced_and_the_large_make_up_for_the_small():
    drawn = draw_labelled(
        np.random.default_rng(0), list(PATTERNS), space=Space(7, 7), n_positives=15 * 50, n_negatives=120
    )
    names, counts = list(IN_WORDS), Counter(drawn.patterns.tolist())
    by_name = {names[index]: n for index, n in counts.items() if index >= 0}
    assert counts.pop(-1) == 120
    assert sum(by_name.values()) == 15 * 50
    assert (by_name.pop("all_same"), by_name.pop("alternating")) == (7, 42)
    assert max(by_name.values()) - min(by_name.values()) <= 1
    found = words(drawn.tokens)
    assert len(set(found)) == len(found)
    for word, index in zip(found, drawn.patterns.tolist(), strict=True):
        assert IN_WORDS[names[index]](word) if index >= 0 else not any(holds(word) for holds in IN_WORDS.values())


def test_an_empty_pattern_gives_labelled_rows_nothing():
    chosen = named("no_repeats", "starts_with")
    drawn = draw_labelled(np.random.default_rng(0), chosen, space=Space(5, 6), n_positives=40, n_negatives=20)
    assert Counter(drawn.patterns.tolist()) == {1: 40, -1: 20}


def test_more_labelled_rows_than_there_are_sequences_are_refused():
    chosen = named("palindrome", "alternating")
    with pytest.raises(DataError, match="more than there are"):
        draw_labelled(np.random.default_rng(0), chosen, space=Space(5, 4), n_positives=120, n_negatives=10)
