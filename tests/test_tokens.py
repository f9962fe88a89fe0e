"""Joining, special tokens, truncation, positions: counted by hand on a tokenizer of whole words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from actlab.activations.compute.batches import plan_batches
from actlab.activations.compute.tokens import EMPTY, NO_SUCH_TOKEN, NOT_IN_TEMPLATE, TOO_LONG, Example, Tokens
from actlab.activations.config import ExtractConfig
from actlab.activations.source import Dropped, Row
from actlab.ground.errors import DataError, ModelError

TEMPLATE = "{{ '<s>' }}{% for m in messages %}{{ ' [' + m.role + '] ' + m.content | trim + ' [end]\n' }}{% endfor %}"


def words(*, bos: bool = True, sep: bool = False, template: str | None = None) -> PreTrainedTokenizerFast:
    """One token a word, one for a newline, `<s>` in front, `[SEP]` behind where asked."""
    names = ["<s>", "[SEP]", "\n", "?", *(f"p{k}" for k in range(50)), *(f"r{k}" for k in range(50))]
    names += ["[user]", "[assistant]", "[end]"]
    tokenizer = Tokenizer(models.WordLevel({name: k for k, name in enumerate(names)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    tokenizer.add_special_tokens(["<s>", "[SEP]"])
    if bos or sep:
        single = " ".join((["<s>"] if bos else []) + ["$A"] + (["[SEP]"] if sep else []))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[("<s>", 0), ("[SEP]", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", chat_template=template)


def make(prompt: str, response: str, tokenizer=None, max_tokens: int = 1000, **settings) -> Example | str:
    tokens = Tokens(tokenizer or words(), ExtractConfig(**settings), max_tokens)
    (made,) = tokens.examples([Row(1, "1", prompt, {"EM": response})])
    return made.reason if isinstance(made, Dropped) else made


def text_of(example: Example, tokenizer=None) -> list[str]:
    return (tokenizer or words()).convert_ids_to_tokens(list(example.ids))


def saved(example: Example) -> list[str]:
    return text_of(example)[example.start : example.stop]


def test_prompt_newline_and_response_are_one_text_with_one_bos():
    made = make("p1 p2", "r1 r2 r3")
    assert text_of(made) == ["<s>", "p1", "p2", "\n", "r1", "r2", "r3"]
    assert saved(made) == ["r3"]


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("last", ["r3"]),
        ("prompt-last", ["p2"]),
        ("response-mean", ["r1", "r2", "r3"]),
        ("mean", ["<s>", "p1", "p2", "\n", "r1", "r2", "r3"]),
        ("-1", ["r3"]),
        ("-4", ["\n"]),
        ("-7", ["<s>"]),
    ],
)
def test_positions_are_the_ones_counted_by_hand(position, expected):
    assert saved(make("p1 p2", "r1 r2 r3", position=position)) == expected


def test_a_position_before_the_first_token_is_dropped_by_name():
    assert make("p1", "r1", position="-5") == NO_SUCH_TOKEN


def test_a_text_that_brings_its_own_bos_gets_no_second_one():
    assert text_of(make("<s> p1", "r1")) == ["<s>", "p1", "\n", "r1"]


def test_special_tokens_behind_the_text_are_no_response_tokens():
    tokenizer = words(sep=True)
    made = make("p1 p2", "r1 r2", tokenizer, position="response-mean")
    assert text_of(made) == ["<s>", "p1", "p2", "\n", "r1", "r2", "[SEP]"]
    assert saved(made) == ["r1", "r2"]


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        ("prompt", ["<s>", "p3", "\n", "r1", "r2"]),
        ("left", ["<s>", "p3", "\n", "r1", "r2"]),
        ("right", ["<s>", "p1", "p2", "p3", "\n"]),
    ],
)
def test_truncation_keeps_bos_and_cuts_the_side_asked_for(side, expected):
    made = make("p1 p2 p3", "r1 r2", max_tokens=5, truncate=side)
    assert text_of(made) == expected
    assert made.n_truncated == 2
    assert saved(made) == expected[-1:]


def test_left_truncation_may_cut_into_the_response_but_prompt_truncation_may_not():
    assert text_of(make("p1", "r1 r2 r3", max_tokens=3, truncate="left")) == ["<s>", "r2", "r3"]
    assert make("p1", "r1 r2 r3", max_tokens=3, truncate="prompt") == TOO_LONG
    assert text_of(make("p1 p2", "r1 r2 r3", max_tokens=4, truncate="prompt")) == ["<s>", "r1", "r2", "r3"]


def test_truncation_moves_the_positions_along():
    made = make("p1 p2 p3 p4", "r1 r2", max_tokens=6, position="prompt-last")
    assert text_of(made) == ["<s>", "p3", "p4", "\n", "r1", "r2"]
    assert saved(made) == ["p4"]
    made = make("p1 p2 p3 p4", "r1 r2", max_tokens=6, position="response-mean", truncate="right")
    assert made == NO_SUCH_TOKEN, "nothing of the response is left"


def test_truncation_can_be_refused():
    with pytest.raises(DataError, match="line 1, EM: 7 tokens, and the limit is 5"):
        make("p1 p2 p3", "r1 r2", max_tokens=5, truncate="error")


def test_a_response_of_no_tokens_is_dropped_by_name():
    assert make("p1", "   ") == EMPTY


def test_a_plain_text_has_no_prompt():
    tokens = Tokens(words(), ExtractConfig(position="response-mean"), 100)
    (made,) = tokens.examples([Row(1, "1", "", {"text": "r1 r2"})])
    assert text_of(made) == ["<s>", "r1", "r2"]
    assert saved(made) == ["r1", "r2"]
    tokens = Tokens(words(), ExtractConfig(position="prompt-last"), 100)
    (made,) = tokens.examples([Row(1, "1", "", {"text": "r1 r2"})])
    assert made.reason == NO_SUCH_TOKEN


def test_a_chat_template_writes_the_special_tokens_itself_once():
    tokenizer = words(template=TEMPLATE)
    made = make("p1 p2", "r1 r2", tokenizer, chat_template=True)
    expected = ["<s>", "[user]", "p1", "p2", "[end]", "\n", "[assistant]", "r1", "r2", "[end]", "\n"]
    assert text_of(made) == expected
    assert saved(made) == ["\n"], "the template ends with a newline, and the table says so"
    made = make("p1 p2", "r1 r2", tokenizer, chat_template=True, position="response-mean")
    assert saved(made) == ["r1", "r2"]
    made = make("p1 p2", "r1 r2", tokenizer, chat_template=True, position="prompt-last")
    assert saved(made) == ["[assistant]"], "the state from which the response begins"
    made = make("p1 p2 p3", "r1 r2", tokenizer, chat_template=True, max_tokens=10)
    cut_from_the_front = ["p2", "p3", "[end]", "\n", "[assistant]", "r1", "r2", "[end]", "\n"]
    assert text_of(made) == ["<s>", *cut_from_the_front], "BOS stays"


def test_a_chat_template_that_is_not_there_or_loses_the_text_is_said():
    with pytest.raises(ModelError, match="tokenizer has none"):
        make("p1", "r1", words(), chat_template=True)
    loses = words(template="{{ '<s>' }} p1")
    assert make("p1", "r1", loses, chat_template=True) == NOT_IN_TEMPLATE
    raises = words(template="{{ raise_exception('no') }}")
    assert make("p1", "r1", raises, chat_template=True) == NOT_IN_TEMPLATE


def test_a_conversation_is_rendered_whole():
    tokenizer = words(template=TEMPLATE)
    messages = tuple({"role": role, "content": text} for role, text in [("user", "p1"), ("assistant", "r1")] * 2)
    row = Row(1, "1", "p1\nr1\np1", {"text": "r1"}, messages)
    (made,) = Tokens(tokenizer, ExtractConfig(chat_template=True, position="response-mean"), 100).examples([row])
    assert text_of(made).count("[user]") == 2
    assert saved(made) == ["r1"]
    assert made.start == len(made.ids) - 3


def test_a_token_that_reaches_over_the_boundary_is_the_prompts():
    # "ab" is one token, so the prompt "xa" ends inside it when nothing stands between
    names = {"<s>": 0, "x": 1, "a\nb": 2, "c": 3, "?": 4, "a": 5, "b": 6, "\n": 7}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    made = make("x a", "b c", fast, position="prompt-last")
    assert fast.convert_ids_to_tokens(list(made.ids)) == ["x", "a\nb", "c"]
    assert (made.start, made.stop) == (1, 2)


lengths_lists = st.lists(st.integers(1, 60), max_size=60)


@given(lengths_lists, st.integers(1, 9), st.integers(1, 200))
def test_batches_hold_every_example_once_within_both_budgets(lengths, batch_size, batch_tokens):
    batches = plan_batches(lengths, batch_size=batch_size, batch_tokens=batch_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= batch_tokens
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


@given(lengths_lists)
def test_lengths_of_different_groups_never_meet(lengths):
    batches = plan_batches(lengths, batch_size=8, batch_tokens=500, group=lambda n: n > 30)
    assert all(len({lengths[index] > 30 for index in batch}) == 1 for batch in batches)


WORD = st.integers(0, 49)


@given(
    st.lists(WORD, min_size=1, max_size=12),
    st.lists(WORD, min_size=1, max_size=12),
    st.integers(2, 30),
    st.sampled_from(["prompt", "left", "right"]),
)
def test_truncation_agrees_with_the_slow_obvious_way(prompt, response, max_tokens, side):
    made = make(
        " ".join(f"p{k}" for k in prompt),
        " ".join(f"r{k}" for k in response),
        max_tokens=max_tokens,
        truncate=side,
    )
    body = [*(f"p{k}" for k in prompt), "\n", *(f"r{k}" for k in response)]
    n_over = max(0, 1 + len(body) - max_tokens)
    if side == "prompt" and n_over > len(prompt) + 1:
        assert made == TOO_LONG
        return
    kept = body[: len(body) - n_over] if side == "right" else body[n_over:]
    assert text_of(made) == ["<s>", *kept]
    assert made.n_truncated == n_over
