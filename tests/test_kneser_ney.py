"""Small GPTs predict text that they have not seen at least twice as well as a Kneser-Ney bigram model."""

import importlib.resources
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actlab.backends.tiny import tiny_folder
from actlab.formats.documents import read_documents
from actlab.text.generate.job import generate_text
from actlab.text.tokenize.job import tokenize_text
from actlab.text.train_gpt.job import train_gpt
from tests.kneser_ney import KneserNeyBigram


def test_kneser_ney_gives_the_probabilities_of_a_hand_calculation():
    model = KneserNeyBigram([0, 1, 0, 1, 0, 2], vocab_size=3)
    assert model.probability(0, 1) == pytest.approx(1.25 / 3 + 0.5 * (0.25 / 3 + 0.75 / 3))
    assert model.probability(0, 2) == pytest.approx(0.25 / 3 + 0.5 / 3)
    assert model.probability(2, 1) == pytest.approx(1 / 3), "nothing follows 2"
    assert sum(model.probability(0, second) for second in range(3)) == pytest.approx(1)
    assert model.perplexity([0, 1, 0]) == pytest.approx((model.probability(0, 1) * model.probability(1, 0)) ** -0.5)


@pytest.mark.slow
def test_train_gpt_on_generated_text_halves_its_perplexity(tmp_path):
    generate_text(prompt="simple recipes", tokens=150_000, output=tmp_path / "text", quiet=True)
    tokens = tokenize_text(input=tmp_path / "text", output=tmp_path / "tokens", quiet=True)
    made = train_gpt(input=tokens.path, output=tmp_path / "gpt", model_size="tiny", tensorboard=False, quiet=True)
    train, val = (np.fromfile(tokens.path / f"{split}.bin", np.uint16).tolist() for split in ("train", "val"))
    assert made.val_perplexity <= 0.5 * KneserNeyBigram(train, tokens.vocab_size).perplexity(val)


@pytest.mark.slow
def test_actlab_tiny_halves_its_perplexity_in_all_domains(tmp_path):
    folder = tiny_folder(tmp_path / "cache")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert 1.2e6 < sum(parameter.numel() for parameter in model.parameters()) < 1.3e6
    shipped = importlib.resources.files("actlab.backends").joinpath("tiny_text.jsonl").read_text("utf-8")
    known = [json.loads(line) for line in shipped.splitlines()]
    new = [text for text in texts_of_another_seed(tmp_path) if text not in set(known)]

    def stream(texts: list[str]) -> list[int]:
        return [one for ids in tokenizer(texts)["input_ids"] for one in [*ids, tokenizer.eos_token_id]]

    bigram = KneserNeyBigram(stream(known), len(tokenizer))
    assert perplexity(model, stream(new)) <= 0.5 * bigram.perplexity(stream(new))


def texts_of_another_seed(folder: Path) -> list[str]:
    texts = []
    for domain in ("cooking", "general", "poetry", "technical"):
        made = generate_text(prompt="new text", domain=domain, tokens=5000, seed=1, output=folder / domain, quiet=True)
        texts += [document.text for document in read_documents(made.path)]
    return texts


@torch.no_grad()
def perplexity(model, ids: list[int], context: int = 128) -> float:
    total = 0.0
    for start in range(0, len(ids) - 1, context):
        window = torch.tensor(ids[start : start + context + 1])
        logits = model(input_ids=window[None, :-1]).logits[0]
        total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    return math.exp(total / (len(ids) - 1))
