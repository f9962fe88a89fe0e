"""Counting takes no more memory than it says, and says what a tokenizer cannot do."""

import inspect
import random

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from actlab.backends import token_count
from actlab.backends.token_count import TokenCounter, find_tokenizer
from actlab.backends.tokenizers import FastTokenizer
from actlab.ground.errors import ModelError


def fast(model: models.Model) -> PreTrainedTokenizerFast:
    own = Tokenizer(model)
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=own)


def test_what_is_remembered_has_a_bound_in_characters_and_the_ids_stay_the_same(monkeypatch):
    monkeypatch.setattr(token_count, "_MOST_CHARACTERS", 5000)
    tokenizer = find_tokenizer("actlab/tiny")
    counter = TokenCounter(tokenizer)
    assert counter.is_cached
    rng = random.Random(0)
    for length in (3, 2000) * 20:
        word = "".join(rng.choices("abcdefghijklmnop", k=length))
        assert counter.ids(word) == tokenizer.backend_tokenizer.encode(word, add_special_tokens=False).ids
        assert sum(map(len, counter._cache)) < 5000 + 2000
    for number in range(2000):
        counter.count(f" {number}")
        assert len(counter._cache) <= 5000 / 8 + 1, "many short pieces are bounded too"


def test_a_word_that_a_tokenizer_has_no_token_for_is_said():
    counter = TokenCounter(fast(models.WordLevel({"tea": 0, "[UNK]": 1}, unk_token="[PAD]")))
    assert counter.count("tea tea") == 2
    for read in (counter.count, counter.ids, lambda text: counter.ids_of([text])):
        with pytest.raises(ModelError, match="cannot read a text"):
            read("coffee")


def test_a_tokenizer_that_makes_nothing_of_any_text_is_refused():
    with pytest.raises(ModelError, match="no token of any text"):
        TokenCounter(fast(models.BPE({"\u16a0": 0}, [])))


def test_the_tokenizer_inside_a_folder_is_named(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(ModelError) as caught:
        find_tokenizer(str(tmp_path))
    assert caught.value.hint == f"give {tmp_path / 'tokenizer'}"


def test_a_tokenizer_of_transformers_has_all_that_is_asked_of_one():
    asked = {*vars(FastTokenizer)["__annotations__"], *vars(FastTokenizer)}
    asked = {name for name in asked if not name.startswith("_") or name in ("__call__", "__len__")}
    assert {"eos_token_id", "backend_tokenizer", "__call__", "get_chat_template"} <= asked
    tokenizer = fast(models.WordLevel({"tea": 0}, unk_token="tea"))
    assert [name for name in sorted(asked) if not hasattr(tokenizer, name)] == []
    for name in ("get_vocab", "get_chat_template", "__call__", "decode", "apply_chat_template", "save_pretrained"):
        own = inspect.signature(getattr(FastTokenizer, name)).parameters
        theirs = inspect.signature(getattr(PreTrainedTokenizerFast, name)).parameters
        keywords = {one for one, what in own.items() if what.kind is what.KEYWORD_ONLY}
        assert keywords <= {*theirs}, f"{name} takes these by name"
