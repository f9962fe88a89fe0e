"""Joining, special tokens, truncation, positions: counted by hand on a tokenizer of whole words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from actlab.activations.config import ExtractConfig
from actlab.activations.source import Dropped, Row
from actlab.activations.tokenise import (
    CUT_AWAY,
    EMPTY,
    NO_SUCH_TOKEN,
    NOT_IN_TEMPLATE,
    OVER_LIMIT,
    TOO_LONG,
    Example,
    Tokens,
)
from actlab.backends.batches import plan_batches
from actlab.ground.errors import ModelError

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
    ],
)
def test_truncation_keeps_bos_and_cuts_the_side_asked_for(side, expected):
    made = make("p1 p2 p3", "r1 r2", max_tokens=5, truncate=side)
    assert text_of(made) == expected
    assert made.n_truncated == 2
    assert saved(made) == expected[-1:]


def test_right_truncation_cuts_the_responses_end():
    made = make("p1 p2", "r1 r2 r3", max_tokens=6, truncate="right")
    assert text_of(made) == ["<s>", "p1", "p2", "\n", "r1", "r2"]
    assert (made.n_truncated, saved(made)) == (1, ["r2"])


def test_left_truncation_may_cut_into_the_response_but_prompt_truncation_may_not():
    assert text_of(make("p1", "r1 r2 r3", max_tokens=3, truncate="left")) == ["<s>", "r2", "r3"]
    assert make("p1", "r1 r2 r3", max_tokens=3, truncate="prompt") == TOO_LONG
    assert text_of(make("p1 p2", "r1 r2 r3", max_tokens=4, truncate="prompt")) == ["<s>", "r1", "r2", "r3"]


def test_truncation_moves_the_positions_along():
    made = make("p1 p2 p3 p4", "r1 r2", max_tokens=6, position="prompt-last")
    assert text_of(made) == ["<s>", "p3", "p4", "\n", "r1", "r2"]
    assert saved(made) == ["p4"]
    made = make("p1 p2 p3 p4", "r1 r2", max_tokens=6, position="response-mean", truncate="right")
    assert made == CUT_AWAY, "a state of the prompt alone would stand for a response"


def test_truncation_can_be_refused():
    assert make("p1 p2 p3", "r1 r2", max_tokens=5, truncate="error") == OVER_LIMIT


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
    raises = words(template="{% if messages[0].content == 'p1' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE)
    assert make("p1", "r1", raises, chat_template=True) == NOT_IN_TEMPLATE
    assert isinstance(make("p2", "r1", raises, chat_template=True), Example)
    with pytest.raises(ModelError, match="cannot render a question and an answer: no"):
        make("p1", "r1", words(template="{{ raise_exception('no') }}"), chat_template=True)


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"


@given(st.sampled_from(["end", "im", "e", "|", "zq", "assistant", "Hello there.", " padded "]))
def test_a_response_that_also_occurs_in_the_template_is_found_where_it_stands(response):
    tokenizer = byte_level(CHATML)
    made = make("What follows begin?", response, tokenizer, chat_template=True, position="response-mean")
    assert tokenizer.decode(list(made.ids[made.start : made.stop])) == response.strip()
    prompt = make("What follows begin?", response, tokenizer, chat_template=True, position="prompt-last")
    before = tokenizer.decode(list(prompt.ids[: prompt.stop]))
    assert before == "<|im_start|>user\nWhat follows begin?<|im_end|>\n<|im_start|>assistant\n"


def byte_level(template: str) -> PreTrainedTokenizerFast:
    """One token a byte, so that any boundary can be hit."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: k for k, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template)


def test_prompt_last_does_not_depend_on_the_response_where_a_token_reaches_over_the_boundary():
    # "[/INST] answer" with a space that the answer's first token takes along
    mark = "{{ ' [user] ' if m.role == 'user' else ' [end] ' }}"
    template = "{{ '<s>' }}{% for m in messages %}" + mark + "{{ m.content }}{% endfor %}"
    names = {"<s>": 0, "▁[user]": 1, "▁p1": 2, "▁[end]": 3, "▁r1": 4, "▁r2": 5, "?": 6}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.add_special_tokens(["<s>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", chat_template=template)
    for response in ("r1", "r2 r1"):
        made = make("p1", response, fast, chat_template=True, position="prompt-last")
        assert fast.convert_ids_to_tokens(list(made.ids[made.start : made.stop])) == ["▁[end]"]
        made = make("p1", response, fast, chat_template=True, position="response-mean")
        expected = [f"▁{word}" for word in response.split()]
        assert fast.convert_ids_to_tokens(list(made.ids[made.start : made.stop])) == expected


def test_whitespace_that_a_tokenizer_leaves_out_of_its_spans_is_no_special_token():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: k for k, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    made = make(" " * 30 + "hi", "yo", fast, max_tokens=10)
    assert not isinstance(made, str), made
    assert (len(made.ids), made.n_truncated) == (10, 25)
    made = make("hi", "a  ", fast, position="response-mean")
    assert made.stop - made.start == 3, "the response's own whitespace is the response's"


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
    if side == "right" and n_over >= len(response):
        assert made == CUT_AWAY
        return
    kept = body[: len(body) - n_over] if side == "right" else body[n_over:]
    assert text_of(made) == ["<s>", *kept]
    assert made.n_truncated == n_over
