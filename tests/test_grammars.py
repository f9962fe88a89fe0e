"""Grammars against a slow enumeration of all they can say, and the shipped ones against what is asked of them."""

import itertools
import json
import math
import random
import re
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from actlab.formats.documents import Document, document_line, read_documents
from actlab.ground.errors import ConfigError, DataError
from actlab.text.domains import domains
from actlab.text.templates.detect import detect_domain
from actlab.text.templates.engine import compile_grammar, generate
from actlab.text.templates.modifiers import past, plural, with_article
from actlab.text.templates.plan import (
    describe_grammar,
    documents_needed,
    expected_duplicates,
    expected_equal_pairs,
    refuse_target,
)
from actlab.text.templates.read import domain_grammar, parse_grammar, read_grammar
from actlab.text.words import normal_form
from tests.command_line import run

# --- the slow obvious version: every combination of parameters, values and draws, one after the other

SMALL = {
    "parameters": {"season": ["May", "June", "July in full"]},
    "variables": {
        "hero": {"forms": ["name", "she"], "rows": ["Ann | she", "Bea | she", "Cid | he"]},
        "tool": [["whisk", 3], ["big pan", 1]],
        "herb": {"pool": "herbs"},
    },
    "pools": {"herbs": ["dill", "mint", "wild sage"]},
    "symbols": {
        "end": ["Done!", ["#hero.she.cap# took #herbs#.", 2], {"text": "In #season# #tail#.", "weight": 0.5}],
        "tail": ["all rests", "#tool.a# waits"],
    },
    "skeletons": {
        "one": ["#hero.name# cuts #herbs# and #herbs#.", "#end#"],
        "two": "Take #herb#, then #herbs#; #herb# again. #end#",
        "three": "Only #season#: #tail#, #tail#.",
    },
}


def alternatives_of(listed):
    for one in listed:
        if isinstance(one, dict):
            yield one["text"], one["weight"]
        elif isinstance(one, list):
            yield one
        else:
            yield one, 1


def rows_of(given, pools):
    if isinstance(given, dict) and "pool" in given:
        return [({"": text}, 1) for text in pools[given["pool"]]]
    if isinstance(given, dict):
        return [(dict(zip(given["forms"], row.split(" | "), strict=True)), 1) for row in given["rows"]]
    return [({"": text}, weight) for text, weight in alternatives_of(given)]


def modify(text, names):
    for name in names:
        text = {"cap": lambda t: t[0].upper() + t[1:], "a": lambda t: ("an " if t[0] in "aeiou" else "a ") + t}[name](
            text
        )
    return text


def expand(content, text, drawn, taken):
    """Yield every text that a template can become, its probability, what is drawn and what is taken from pools."""
    found = re.search(r"#(\w+)((?:\.\w+)*)#", text)
    if not found:
        yield text, 1.0, drawn, taken
        return
    before, after = text[: found.start()], text[found.end() :]
    name, dotted = found[1], found[2].split(".")[1:]
    ways = []
    pools = content.get("pools", {})
    if name in pools:
        left = [value for value in pools[name] if value not in taken]
        ways = [(modify(value, dotted), 1 / len(left), drawn, taken | {value}) for value in left]
    elif name in content.get("symbols", {}):
        listed = list(alternatives_of(content["symbols"][name]))
        total = sum(weight for _, weight in listed)
        for alternative, weight in listed:
            for inner, p, now_drawn, now_taken in expand(content, alternative, drawn, taken):
                ways.append((modify(inner, dotted), p * weight / total, now_drawn, now_taken))
    else:
        given = {**content.get("parameters", {}), **content.get("variables", {})}[name]
        rows = [(row, weight) for row, weight in rows_of(given, pools)]
        from_pool = isinstance(given, dict) and "pool" in given
        if name in drawn:
            rows = [(drawn[name], 1)]
        elif from_pool:
            rows = [(row, weight) for row, weight in rows if row[""] not in taken]
        total = sum(weight for _, weight in rows)
        for row, weight in rows:
            form = "" if "" in row else dotted[0]
            shown = modify(row[form], dotted if form == "" else dotted[1:])
            ways.append((shown, weight / total, {**drawn, name: row}, taken | ({row[""]} if from_pool else set())))
    for shown, p, now_drawn, now_taken in ways:
        for rest, q, last_drawn, last_taken in expand(content, after, now_drawn, now_taken):
            yield before + shown + rest, p * q, last_drawn, last_taken


def by_combination(content):
    """Return, for each combination, the probability of each text."""
    names = list(content.get("parameters", {}))
    values = [rows_of(content["parameters"][name], {}) for name in names]
    found = []
    for skeleton in content["skeletons"].values():
        text = " ".join(skeleton) if isinstance(skeleton, list) else skeleton
        for chosen in itertools.product(*values):
            drawn = {name: row for name, (row, _) in zip(names, chosen, strict=True)}
            texts = Counter()
            for one, p, _, _ in expand(content, text, drawn, frozenset()):
                texts[one] += p
            found.append(texts)
    return found


def mean_texts(content):
    combinations = by_combination(content)
    texts = Counter()
    for one in combinations:
        assert sum(one.values()) == pytest.approx(1)
        for text, p in one.items():
            texts[text] += p / len(combinations)
    return texts


def grammar_of(content, where="g.yaml"):
    return parse_grammar(yaml.safe_dump(content, sort_keys=False), where=where)


def assert_counts_are_right(content):
    facts, texts = describe_grammar(grammar_of(content)), mean_texts(content)
    assert facts.language_size == len(texts)
    assert facts.expected_words == pytest.approx(sum(p * len(text.split()) for text, p in texts.items()))
    assert facts.collision_probability == pytest.approx(sum(p * p for p in texts.values()))


def test_counts_equal_exhaustive_enumeration():
    assert_counts_are_right(SMALL)
    assert describe_grammar(grammar_of(SMALL)).n_combinations == 9


def test_texts_that_differ_in_case_and_white_space_are_counted_once():
    content = {
        "parameters": {"p": {"forms": ["x", "y"], "rows": ["one | Big", "two | big", "six | small"]}},
        "variables": {"v": {"forms": ["x", "y"], "rows": ["Ann | She", "Bea | she", "Cid | he"]}},
        "skeletons": {"a": "Here #v.y# is #p.y#.", "b": "Then #v.y.cap# and #v.x# and #p.y#."},
    }
    texts = Counter()
    for text, p in mean_texts(content).items():
        texts[normal_form(text)] += p
    facts = describe_grammar(grammar_of(content))
    assert facts.language_size == len(texts)
    assert facts.collision_probability == pytest.approx(sum(p * p for p in texts.values()))


def test_long_documents_are_counted():
    facts = describe_grammar(grammar_of({"skeletons": {"s": "#x# " * 1500}, "symbols": {"x": ["a", "b c"]}}))
    assert facts.language_size == 2**1500
    assert facts.expected_words == 1500 * 1.5
    with pytest.raises(DataError, match="too many to write down"):
        describe_grammar(grammar_of({"skeletons": {"s": "#x# " * 5000}, "symbols": {"x": list(range(10))}}))


def most_draws(content):
    """Return how often a document may draw from the pool q, counting the variable u always; at least once."""
    most = {"q": 1}
    for name, listed in content["symbols"].items():
        most[name] = max(sum(most.get(slot, 0) for slot in re.findall(r"#(\w+)", text)) for text, _ in listed)
    texts = content["skeletons"].values()
    return 1 + max(sum(most.get(slot, 0) for slot in re.findall(r"#(\w+)", text)) for text in texts)


@st.composite
def grammars(draw):
    """Small grammars in which no two derivations share a text: each literal and value is a word of its own."""
    fresh = (f"w{n}" for n in itertools.count())

    def texts(low, high):
        return [next(fresh) + draw(st.sampled_from(["", " x", " x y"])) for _ in range(draw(st.integers(low, high)))]

    def weighted(listed):
        return [[text, draw(st.sampled_from([1, 2, 5]))] for text in listed]

    content = {
        "parameters": {"p": texts(1, 2)},
        "variables": {
            "v": weighted(texts(1, 3)),
            "u": {"pool": "q"},
            "h": {"forms": ["n", "o"], "rows": [f"{text} | {'ab'[k % 2]}" for k, text in enumerate(texts(1, 3))]},
        },
        "pools": {"q": []},
        "symbols": {},
        "skeletons": {},
    }
    slot = st.sampled_from(["#p#", "#v#", "#u#", "#q#", "#h.n#", "#h.o.cap#"])
    for number in range(2):
        known = [f"#s{k}#" for k in range(number)]
        inside = st.lists(st.one_of(slot, st.sampled_from(known)) if known else slot, max_size=2)
        listed = [" ".join([next(fresh), *draw(inside)]) for _ in range(draw(st.integers(1, 2)))]
        content["symbols"][f"s{number}"] = weighted(listed)
    for number in range(draw(st.integers(1, 2))):
        inside = draw(st.lists(st.one_of(slot, st.sampled_from(["#s0#", "#s1#"])), max_size=2))
        content["skeletons"][f"k{number}"] = " ".join([next(fresh), *inside, "end"])
    content["pools"]["q"] = texts(most_draws(content), most_draws(content) + 1)
    return content


@settings(max_examples=60, deadline=None)
@given(grammars())
def test_counts_equal_enumeration_for_any_grammar(content):
    assert_counts_are_right(content)


def test_documents_come_as_often_as_their_probability_says():
    texts, compiled = mean_texts(SMALL), compile_grammar(grammar_of(SMALL))
    n = 18_000
    drawn = Counter(compiled.generate(5, k).text for k in range(n))
    assert set(drawn) <= set(texts)
    for text, p in texts.items():
        assert abs(drawn[text] - n * p) < 5 * math.sqrt(n * p) + 5, text


@pytest.mark.parametrize("n", [4, 9, 14, 30])
def test_expected_equal_pairs_agree_with_measured_ones(n):
    compiled, facts = compile_grammar(grammar_of(SMALL)), describe_grammar(grammar_of(SMALL))
    runs = []
    for seed in range(700):
        drawn = Counter(compiled.generate(seed, k).text for k in range(n))
        runs.append(sum(math.comb(times, 2) for times in drawn.values()))
    mean = sum(runs) / len(runs)
    error = math.sqrt(sum((one - mean) ** 2 for one in runs)) / len(runs)
    assert abs(mean - expected_equal_pairs(facts, n)) < 4 * error


def test_expected_duplicates_agree_with_measured_ones():
    content = {"skeletons": {"s": "#v# #w# #u#"}, "variables": {
        name: [f"{name}{k}" for k in range(20)] for name in "vwu"}}  # fmt: skip
    compiled, facts = compile_grammar(grammar_of(content)), describe_grammar(grammar_of(content))
    for n in (300, 4000):
        measured = [n - len({compiled.generate(seed, k).text for k in range(n)}) for seed in range(3)]
        expected = expected_duplicates(facts, n)
        assert abs(sum(measured) / 3 - expected) < 4 * math.sqrt(expected / 3)


def test_a_pass_through_the_product_repeats_nothing_that_tells_its_combination():
    content = {"skeletons": {"a": "A #p# #q#", "b": "B #p# #q#"}, "parameters": {"p": ["1", "2", "3"], "q": ["x", "y"]}}
    facts = describe_grammar(grammar_of(content))
    assert expected_duplicates(facts, 12) == expected_equal_pairs(facts, 12) == 0
    texts = [generate(grammar_of(content), 1, k).text for k in range(24)]
    assert sorted(texts[:12]) == sorted(texts[12:]) == sorted(set(texts))
    assert texts[:12] != texts[12:]
    assert expected_equal_pairs(facts, 24) == pytest.approx(12)


def test_a_target_that_a_grammar_cannot_supply_is_refused_with_the_numbers():
    facts = describe_grammar(grammar_of(SMALL, where="mine.yaml"))
    with pytest.raises(ConfigError, match=r"10,000 tokens are about [\d,]+ documents of mine.yaml") as refused:
        refuse_target(facts, 10_000, 1.3)
    most = int(re.search(r"at most ([\d,]+) tokens", refused.value.hint)[1].replace(",", ""))
    refuse_target(facts, max(most - 15, 0), 1.3)
    refuse_target(describe_grammar(domain_grammar("cooking")), 10**9, 1.3)


def test_documents_needed_hold_the_tokens():
    facts = describe_grammar(domain_grammar("technical"))
    n = documents_needed(facts, 50_000, 1.25)
    compiled = compile_grammar(domain_grammar("technical"))
    n_words = sum(len(compiled.generate(0, k).text.split()) for k in range(n))
    assert n_words * 1.25 == pytest.approx(50_000, rel=0.01)


# --- documents


def test_document_k_depends_on_the_seed_and_k_alone():
    grammar = domain_grammar("general")
    texts = {k: generate(grammar, 7, k, "a letter").text for k in range(60)}
    order = random.Random(0).sample(range(60), 60)
    compile_grammar.cache_clear()
    fresh = read_grammar(Path(grammar.where))
    assert {k: generate(fresh, 7, k, "a letter").text for k in order} == texts
    assert generate(grammar, 8, 0).text != generate(grammar, 7, 0).text


def test_people_and_things_stay_the_same_and_pools_never_repeat():
    content = {
        "variables": {"who": [{"name": "Ann", "she": "she"}, {"name": "Bob", "she": "he"}], "first": {"pool": "x"}},
        "pools": {"x": ["a", "b", "c", "d"]},
        "skeletons": {"s": "#who.name# #who.she# #first# #x# #x# #x# #first#"},
    }
    for k in range(200):
        text, labels = generate(grammar_of(content), 0, k)
        name, she, first, *rest, again = text.split()
        assert (name, she) in {("Ann", "she"), ("Bob", "he")}
        assert first == again
        assert sorted([first, *rest]) == ["a", "b", "c", "d"]
        assert labels["slots"] == {"who": name, "first": first, "x": [first, *rest]}


def test_labels_hold_what_the_text_shows():
    for domain in domains():
        grammar = domain_grammar(domain)
        for k in range(80):
            text, labels = generate(grammar, 2, k)
            assert labels["skeleton"] in grammar.skeletons
            assert set(labels["parameters"]) == set(grammar.parameters)
            for name, value in labels["slots"].items():
                shown = value if isinstance(value, list) else [value]
                if name not in {
                    "main",
                    "hero",
                    "cook",
                    "one",
                    "engineer",
                }:  # whose first form may not be the one in use
                    assert all(one.lower().rstrip("y") in text.lower() for one in shown), (name, value, text)


def test_two_hashes_are_one_and_values_are_taken_as_they_are():
    content = {"pools": {"x": ["F#", "a ## b"]}, "skeletons": {"s": "C## ##1 ###x### and #x#."}}
    texts = {generate(grammar_of(content), 0, k).text for k in range(20)}
    assert texts == {"C# #1 #F## and a ## b.", "C# #1 #a ## b# and F#."}


# --- prompts


def test_what_the_prompt_names_comes_up_in_half_of_the_draws():
    grammar = domain_grammar("cooking")
    plain = compile_grammar(grammar)
    named = compile_grammar(grammar, "Simple pumpkin recipes for autumn")
    shares = [
        sum(c.generate(0, k).labels["slots"].get("main") == "pumpkin" for k in range(900)) / 900 for c in (plain, named)
    ]
    assert shares[0] < 0.05 < 0.42 < shares[1] < 0.58
    seasons = Counter(named.generate(0, k).labels["parameters"]["season"] for k in range(900))
    assert 0.45 < seasons["autumn"] / 900 < 0.55
    assert compile_grammar(grammar, "them").grammar.variables == plain.grammar.variables


def test_a_value_is_named_by_a_text_of_its_own_though_others_share_theirs():
    rows = ["dog | hound", "cat | beast", "cow | beast", *(f"pet{k} | thing{k}" for k in range(20))]
    grammar = grammar_of({"variables": {"v": {"forms": ["n", "m"], "rows": rows}}, "skeletons": {"s": "#v.n#"}})

    def most(prompt):
        return Counter(compile_grammar(grammar, prompt).generate(0, k).text for k in range(400)).most_common(1)[0]

    assert most("a hound")[0] == "dog"
    assert most("a hound")[1] > 150
    assert most("a cow-bell")[0] == "cow"
    assert most("a beast")[1] < 50


def test_a_prompt_does_not_make_the_product_larger_than_it_may_be():
    names = [f"p{k}" for k in range(9)]
    content = {"parameters": {name: [f"{name}{letter}" for letter in "abcd"] for name in names}}
    content["skeletons"] = {"s": " ".join(f"#{name}#" for name in names)}
    plain, prompt = describe_grammar(grammar_of(content)), " ".join(f"{name}a" for name in names)
    biased = describe_grammar(grammar_of(content), prompt)
    assert plain.n_combinations == 4**9 < biased.n_combinations <= 1_000_000
    few = {**content, "parameters": {name: content["parameters"][name] for name in names[:3]}}
    few["skeletons"] = {"s": "#p0# #p1# #p2#"}
    assert describe_grammar(grammar_of(few), prompt).n_combinations == 6**3


def test_a_biased_grammar_is_still_counted_exactly():
    prompt = "a whisk in June, with Cid"
    facts, compiled = describe_grammar(grammar_of(SMALL), prompt), compile_grammar(grammar_of(SMALL), prompt)
    pairs = [
        sum(math.comb(n, 2) for n in Counter(compiled.generate(seed, k).text for k in range(20)).values())
        for seed in range(600)
    ]
    mean = sum(pairs) / len(pairs)
    error = math.sqrt(sum((one - mean) ** 2 for one in pairs)) / len(pairs)
    assert abs(mean - expected_equal_pairs(facts, 20)) < 4 * error


@pytest.mark.parametrize(
    ("prompt", "domain"),
    [
        ("simple recipes", "cooking"),
        ("Baking for beginners", "cooking"),
        ("poems about the sea", "poetry"),
        ("How to debug a Python server", "technical"),
        ("the history of a town", "general"),
        ("recipes for poets", "general"),
        ("the poet’s corner", "poetry"),
        ("a recipe-book", "cooking"),
        ("one sea-poem", "poetry"),
        ("", "general"),
        ("zzz", "general"),
    ],
)
def test_a_domain_is_found_by_whole_words(prompt, domain):
    assert detect_domain(prompt).domain == domain


def test_history_is_no_story():
    assert [one.word for one in detect_domain("prehistory universe panama").evidence] == []
    found = detect_domain("RECIPES, recipe; a cooked recipe")
    assert [(one.word, one.domain) for one in found.evidence] == [("recipes", "cooking"), ("cooked", "cooking")]
    weights = sum(one.weight for one in found.evidence)
    assert found.margin == pytest.approx((math.exp(weights) - 1) / (math.exp(weights) + len(domains()) - 1))


# --- errors

GOOD = {"skeletons": {"s": "Hello #name#."}, "symbols": {"name": ["you", "me"]}}
WRONG = {
    "unknown symbol": ({"skeletons": {"s": "Hello #nam#."}}, "skeleton 's' uses #nam#", "did you mean 'name'"),
    "unknown modifier": ({"skeletons": {"s": "#name.cpa#"}}, "skeleton 's' has an unknown modifier 'cpa'", "'cap'"),
    "unknown form": ({"variables": {"v": [{"x": "a"}]}, "skeletons": {"s": "#v#"}}, "a form '' that it lacks", "x"),
    "recursion": ({"symbols": {"name": ["#b#"], "b": ["#name# x"]}}, "without end: name > b > name", "take #name# out"),
    "itself": ({"symbols": {"name": ["x", "y #name#"]}}, "symbol 'name' contains itself", "take #name# out of 'name'"),
    "no alternatives": ({"symbols": {"name": []}}, "symbol 'name' is empty", "at least one"),
    "empty text": ({"symbols": {"name": ["x", " "]}}, "symbol 'name' has an empty text", "with it and without"),
    "zero weight": ({"symbols": {"name": [["x", 0]]}}, "symbol 'name' has the weight '0'", "from 0.000001"),
    "text as weight": ({"symbols": {"name": [["x", "y"]]}}, "symbol 'name' has the weight 'y'", "from 0.000001"),
    "infinite weight": ({"symbols": {"name": [["x", float("inf")]]}}, "the weight '.inf'", "to 1,000,000"),
    "no number": ({"symbols": {"name": [["x", float("nan")]]}}, "the weight '.nan'", "to 1,000,000"),
    "huge weight": ({"parameters": {"p": [["x", 10**401]]}}, "the weight '1000", "to 1,000,000"),
    "tiny weight": ({"variables": {"v": [["x", 1e-200]]}}, "the weight '1.0e-200'", "from 0.000001"),
    "list as weight": ({"keywords": {"x": []}}, "keyword 'x' has the weight []", "a number"),
    "a key too many": (
        {"variables": {"v": {"forms": ["a"], "rows": ["x"], "weight": [1]}}},
        "variable 'v' has a key 'weight'",
        "forms and rows alone",
    ),
    "a key astray": ({"variables": {"v": {"pool": "p", "rows": ["x"]}}, "pools": {"p": ["x"]}}, "a key 'rows'", "pool"),
    "misspelt": ({"variables": {"v": {"forms": ["a"], "row": ["x"]}}}, "a key 'row'", "did you mean 'rows'"),
    "weight in a pool": ({"pools": {"p": [["x", 2]]}}, "pool 'p': ['x', '2'] is no text", "have weights"),
    "no domain": ({"domain": ""}, "the domain is ''", "leave it out"),
    "two domains": ({"domain": ["a", "b"]}, "the domain is ['a', 'b']", "one name"),
    "half a parameter": ({"parameters": {"p": [["x", 0.5]]}}, "parameter 'p' has a weight that is no whole", "product"),
    "no skeletons": ({"skeletons": {}}, "has no skeletons", "add a mapping 'skeletons'"),
    "unknown section": ({"symbol": {}}, "no section 'symbol'", "did you mean 'symbols'"),
    "list for a section": ({"symbols": ["x"]}, "symbols is a list", "maps names"),
    "twice the same": ({"symbols": {"name": ["x", "x"]}}, "symbol 'name' has", "weight"),
    "but for case": ({"symbols": {"name": ["One #p#", "one\n#p#"]}}, "symbol 'name' has", "case and white space"),
    "a pool's": ({"pools": {"p": ["Dill", "dill"]}}, "pool 'p' has 'Dill' twice", "case and white space"),
    "a skeleton's": ({"skeletons": {"a": "x", "b": "X"}}, "skeletons has ('x',) twice", "keep one"),
    "one name twice": ({"pools": {"name": ["x"]}}, "'name' is one of the symbols", "rename"),
    "stray hash": ({"skeletons": {"s": "Number #1."}}, "a # that is no slot", "write ## for"),
    "small pool": ({"pools": {"x": ["a"]}, "skeletons": {"s": "#x# #x#"}}, "may ask 2 different values", "add values"),
    "no such pool": ({"variables": {"v": {"pool": "y"}}}, "variable 'v' takes from a pool 'y'", "pools"),
    "short row": ({"variables": {"v": {"forms": ["a", "b"], "rows": ["x"]}}}, "not have 2 forms", "a | b"),
    "other forms": ({"variables": {"v": [{"a": "x"}, {"b": "y"}]}}, "other forms", "give a"),
    "too many": (
        {"parameters": {"p": list(range(2000)), "q": list(range(2000))}},
        "4,000,000 combinations",
        "variables",
    ),
    "a bomb": (
        {"symbols": {"name": ["#a0# #a0#"], **{f"a{k}": [f"#a{k + 1}# #a{k + 1}#"] for k in range(40)}, "a40": ["x"]}},
        "slots",
        "below",
    ),
    "a deep well": (
        {"symbols": {"name": ["#a0#"], **{f"a{k}": [f"#a{k + 1}#"] for k in range(999)}, "a999": ["x"]}},
        "deep",
        "one",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_grammar_is_said_with_file_and_symbol(name):
    change, message, hint = WRONG[name]
    with pytest.raises(DataError) as wrong:
        grammar_of({**GOOD, **change}, where="mine.yaml")
    assert str(wrong.value).startswith("mine.yaml")
    assert message in str(wrong.value)
    assert hint in wrong.value.hint
    assert "\n" not in f"{wrong.value}{wrong.value.hint}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skeletons: [", "is not YAML"),
        ("just text", "holds no mapping"),
        ("", "holds no mapping"),
        ("a: !!python/object/apply:os.getcwd []", "line 1 has the tag"),
        ("domain: !!timestamp foo", "line 1 has the tag"),
        ("skeletons: {s: x, s: y}", "has 's' twice"),
        ("skeletons:\n  s: Add #thing#\nsymbols: {thing: [x]}", "line 2 loses '#thing#'"),
        ('skeletons:\n  s: "Add" #thing# # now', "line 2 loses '#thing# # now'"),
        ("skeletons:\n  s: Add # then #thing# well", "line 2 loses '# then #thing# well'"),
        ("skeletons:\n  s: Add the\n    #thing# and stir.", "line 3 loses '#thing# and stir.'"),
        ("skeletons:\n  s: > #thing#\n    stir", "line 2 loses '#thing#'"),
        ("skeletons:\n  r: &r Add\n  s: *r #thing#", "line 3 loses '#thing#'"),
        ('skeletons: {s: ["Add", #thing.cap#\n  "stir"]}', "line 1 loses '#thing.cap#'"),
        ("skeletons:\n  s: Item #1", "line 2 loses '#1'"),
        ("skeletons: &a\n  s: [*a]", "contains itself"),
        ("skeletons: {<<: {a: x}}", "has a name '<<'"),
        ("[" * 5000, "nests more than 100 levels"),
    ],
)
def test_what_yaml_cannot_or_should_not_read_is_an_error(text, message, tmp_path):
    path = tmp_path / "g.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_grammar(path)
    with pytest.raises(DataError, match="cannot read"):
        read_grammar(tmp_path / "none.yaml")


COMMENTED = """# The slot #x# is a fruit.
pools:
  x: [fig]  # or pears
  #y: ["no"]
skeletons:
  # s: "#y#"
  r: |  # as it is
    😀 #x#
    ##1 #x.a# ## here
  s: "Eat
    #x#"
"""


def test_comments_are_comments_and_texts_are_texts(tmp_path):
    path = tmp_path / "g.yaml"
    path.write_text("\ufeff" + COMMENTED)
    with pytest.raises(DataError, match="may ask 2 different values"):
        read_grammar(path)
    path.write_text("\ufeff" + COMMENTED.replace("[fig]", "[fig, kiwi]"))
    texts = {generate(read_grammar(path), 1, k).text for k in range(40)}
    assert texts == {"Eat fig", "Eat kiwi", "😀 fig\n#1 a kiwi # here", "😀 kiwi\n#1 a fig # here"}


def test_scalars_are_taken_as_they_are_written():
    written = ["7:30", "12:45", "010", "1_000", "1.50", "1e3", "0x1F", "5.0", "yes", "2024-01-01", "~", "null", ".inf"]
    grammar = parse_grammar(f"pools: {{no: [{', '.join(written)}]}}\nskeletons: {{on: '#no#'}}", where="g")
    assert grammar.pools["no"] == tuple(written)


@settings(max_examples=200, deadline=None)
@given(st.text("#xab01.:~-_ ", min_size=1, max_size=12), st.sampled_from(["  s: {}", "  s:\n    - {}", "  s: [{}]"]))
def test_a_plain_scalar_is_what_it_would_be_in_quotes_or_refused(text, place):
    """But for what can only be a comment: a # with something before and nothing close behind it."""

    def skeleton(scalar):
        try:
            grammar = parse_grammar(f"symbols: {{x: [one]}}\nskeletons:\n{place.format(scalar)}\n", where="g")
        except DataError:
            return None
        return grammar.skeletons["s"]

    if not re.search(r"(^|\s)#+([^\w#]|$)", text):
        assert skeleton(text) in (skeleton(json.dumps(text)), None)


def test_aliases_of_aliases_fill_no_memory():
    nested = ", ".join(["&a0 [x, y, z]", *(f"&a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 7))])
    tracemalloc.start()
    with pytest.raises(DataError, match="its aliases written out"):
        parse_grammar(f"skeletons: {{s: x}}\npools: {{p: [[{nested}]]}}", where="g")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_show_takes_a_grammar_by_any_name_and_a_folder_for_a_dataset(tmp_path):
    for name in ("gram.txt", "gram.YAML", "gram.yml"):
        (tmp_path / name).write_text("skeletons: {s: '#x# goes.'}\nsymbols: {x: [one, two]}")
        assert json.loads(run("show", tmp_path / name, "--json").stdout)["language_size"] == 2
    (tmp_path / "rows.jsonl").write_text("{}")
    assert "is a file of another kind" in run("show", tmp_path / "rows.jsonl").stderr
    (tmp_path / "set.yaml").mkdir()
    folder = run("show", tmp_path / "set.yaml")
    assert folder.returncode == 1
    assert "no finished activations" in folder.stderr
    assert "there is no grammar" in run("show", tmp_path / "none.yaml").stderr
    assert "what a grammar can say" in " ".join(run("show", "--help").stdout.split())


LEAVES = st.none() | st.booleans() | st.integers() | st.text("ab#. ", max_size=6) | st.floats()
KEYS = st.sampled_from(["text", "weight", "pool", "forms", "rows", "x"])
CONTENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=5
)


@settings(max_examples=100, deadline=None)
@given(CONTENTS, st.sampled_from(["parameters", "variables", "pools", "symbols", "skeletons"]))
def test_any_content_is_read_or_refused(content, section):
    try:
        grammar = grammar_of({**GOOD, section: {"name" if section == "symbols" else "z": content}})
    except DataError:
        return
    assert generate(grammar, 0, 0).text
    describe_grammar(grammar)


@pytest.mark.parametrize(
    ("word", "article"),
    [("apple", "an"), ("hour", "an"), ("house", "a"), ("European", "a"), ("unicorn", "a"), ("uninvited guest", "an"),
     ("one-eyed cat", "a"), ("onion", "an"), ("user", "a"), ("umbrella", "an"), ("x-ray", "an"), ("heron", "a"),
     ("honest man", "an"), ("ukulele", "a"), ("utensil", "a"), ("unit", "a"), ("unimportant note", "an"),
     ("urn", "an"), ("unidentified man", "an"), ("unissued ticket", "an"), ("unironed shirt", "an"),
     ("unanimous vote", "a"), ("8 minute walk", "an"), ("11 day trip", "an"), ("18-inch pipe", "an"), ("80", "an"),
     ("11,000", "an"), ("110", "a"), ("1,800", "a"), ("1100", "a"), ("9", "a"), ("US citizen", "a"), ("UFO", "a"),
     ("Ukrainian", "a"), ("Ugandan", "a"), ("Urdu", "an"), ("HTML page", "an"), ("MRI", "an"), ("NASA", "a"),
     ("école", "an"), ("Ünal", "an"), ("çay", "a"), ("usable pan", "a"), ("usher", "an")],
)  # fmt: skip
def test_the_article_follows_the_sound(word, article):
    assert with_article(word) == f"{article} {word}"


def test_plurals_and_pasts_are_as_a_dictionary_has_them():
    plurals = {"stomach": "stomachs", "quiz": "quizzes", "thief": "thieves", "church": "churches", "ox": "oxen"}
    assert {word: plural(word) for word in plurals} == plurals
    pasts = {"admit": "admitted", "prefer": "preferred", "occur": "occurred", "equip": "equipped", "panic": "panicked",
             "visit": "visited", "offer": "offered", "open": "opened", "pick": "picked"}  # fmt: skip
    assert {word: past(word) for word in pasts} == pasts


# --- the shipped grammars


@pytest.mark.parametrize("domain", ["cooking", "poetry", "technical", "general"])
def test_a_shipped_grammar_gives_a_hundred_thousand_varied_tokens(domain):
    grammar = domain_grammar(domain)
    facts, compiled = describe_grammar(grammar), compile_grammar(grammar, "simple recipes")
    refuse_target(facts, 100_000, 1.3)
    texts = [compiled.generate(0, k).text for k in range(documents_needed(facts, 100_000, 1.3))]
    documents = [text.lower().split() for text in texts]
    words = [word for document in documents for word in document]
    openings = Counter(tuple(document[:3]) for document in documents)
    assert len(grammar.skeletons) >= 40
    assert len(set(texts)) > 0.999 * len(texts)
    assert len(set(itertools.pairwise(words))) / len(words) > 0.16
    assert max(openings.values()) < 0.035 * len(documents)
    assert 25 <= min(map(len, documents)) <= max(map(len, documents)) <= 120
    assert sum(map(len, documents)) / len(documents) == pytest.approx(facts.expected_words, rel=0.02)


@pytest.mark.parametrize("domain", ["cooking", "poetry", "technical", "general"])
def test_a_shipped_grammar_writes_clean_sentences_and_uses_all_it_defines(domain):
    grammar = domain_grammar(domain)
    templates = [*grammar.skeletons.values(), *(one.template for each in grammar.symbols.values() for one in each)]
    used = {slot.name for template in templates for slot in template if not isinstance(slot, str)}
    assert used >= {*grammar.parameters, *grammar.variables, *grammar.pools, *grammar.symbols}
    for k in range(1500):
        text = generate(grammar, 4, k).text
        assert re.match(r'["A-Z0-9]', text), text
        assert not re.search(r'[.!?] "?[a-z]|  |#|\ban [bcdgjkpqtvwyz]|\ba [aio]|\b(a|an|the) (a|an|the)\b', text), text
        assert re.search(r'[.?!]"?$', text), text
        assert text.count('"') % 2 == 0
        assert not re.search(r"\b(\w+) \1\b", text, re.IGNORECASE), text


# --- documents.jsonl


UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
SOME_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)
LABELS = st.dictionaries(UNICODE, st.integers() | st.lists(UNICODE, max_size=2), max_size=2)


@given(st.lists(st.builds(Document, UNICODE, SOME_TEXT, st.integers(0, 10**9), UNICODE, LABELS)))
@settings(max_examples=40, deadline=None)
def test_documents_come_back_as_they_were_written(tmp_path_factory, documents):
    folder = tmp_path_factory.mktemp("documents")
    (folder / "documents.jsonl").write_bytes(b"".join(map(document_line, documents)))
    assert list(read_documents(folder)) == list(read_documents(folder / "documents.jsonl")) == documents
    rows = [json.loads(line) for line in (folder / "documents.jsonl").read_text("utf-8").split("\n") if line]
    assert [list(row) for row in rows] == [["id", "text", "n_tokens", "source", "labels"]] * len(documents)


def test_rows_with_text_alone_are_documents_too(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b'{"text": "One.\\r\\nTwo."}\n{"text": "Three.", "url": 3}')
    assert list(read_documents(path)) == [
        Document("1", "One.\nTwo.", 0, "file", {}),
        Document("2", "Three.", 0, "file", {}),
    ]


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"\xff", b'{"text": ""}', b'{"text": " "}', b'{"id": "x"}', b'{"text": 1}',
             b'{"text": "x", "n_tokens": "3"}', b'{"text": "x", "n_tokens": true}', b'{"text": "x", "n_tokens": -1}',
             b'{"text": "x", "labels": []}', b'{"text": "\\ud800"}', b"[" * 100_000]
)  # fmt: skip
def test_any_other_line_is_an_error_that_names_it(line, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b'{"text": "fine"}\n' + line + b"\n")
    with pytest.raises(DataError, match="line 2"):
        list(read_documents(path))
    with pytest.raises(DataError, match="cannot read"):
        list(read_documents(tmp_path / "none"))
