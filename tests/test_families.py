"""Whatever the family, batch and order: a saved row is what a bare hook sees on that text alone."""

import functools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

import actlab
from tests import tiny
from tests.conftest import make_rows, untested

TOLERANCE = 1e-5


def rows_of_any_length() -> list[dict[str, str]]:
    """Rows of 5 to some 90 tokens, in no order of length."""
    rows = make_rows(9)
    rows[4]["EM"] = " ".join(tiny.TEXTS)
    rows[7]["Neutral"] = " ".join(tiny.TEXTS[:2])
    return rows


def relative_errors(rows: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (rows - truth).norm(dim=-1) / truth.norm(dim=-1)


@pytest.fixture(scope="module")
def model_of(tmp_path_factory) -> Callable[[str], Path]:
    """A tiny random model of a family, made once: nothing writes into its folder."""
    return functools.cache(lambda family: tiny.make_model(tmp_path_factory.mktemp("families") / family, family))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_saved_row_is_what_a_bare_hook_sees_on_that_text_alone(family, model_of, tmp_path, write_rows):
    model = model_of(family)
    rows = rows_of_any_length()
    tokenizer = tiny.make_tokenizer()
    for batch_size, batch_tokens, order in [(32, 4096, 1), (3, 150, -1), (1, 1, 1)]:
        source = write_rows(rows[::order], f"data-{batch_size}.jsonl")
        (dump,) = actlab.extract_activations(
            model=model,
            dataset=source,
            output=tmp_path / "out",
            dtype="float32",
            batch_size=batch_size,
            batch_tokens=batch_tokens,
        )
        for split in ("EM", "Neutral"):
            acts = actlab.open_activations(dump.path, split)
            for place, row in enumerate(rows[::order]):
                ids = tokenizer(row["prompt"] + "\n" + row[split])["input_ids"]
                truth, hidden_states = tiny.oracle_states(model, family, ids)
                saved = torch.stack([acts[layer][place] for layer in acts.layers])
                assert relative_errors(saved, truth[:, -1]).max() < TOLERANCE
                shift = tiny.FAMILIES[family].shift
                for layer in range(tiny.N_LAYERS - 1) if shift is not None else ():
                    own = hidden_states[layer + shift][0, -1]
                    assert relative_errors(saved[layer], own) < TOLERANCE


@pytest.mark.parametrize("family", ["llama", "bert", "phi3-longrope", "mamba"])
@pytest.mark.parametrize("position", ["prompt-last", "response-mean", "mean", "-3"])
def test_a_position_is_the_one_that_counting_by_hand_gives(family, position, model_of, tmp_path, write_rows):
    model = model_of(family)
    rows = rows_of_any_length()
    tokenizer = tiny.make_tokenizer()
    (dump,) = actlab.extract_activations(
        model=model, dataset=write_rows(rows), output=tmp_path / "out", dtype="float32", position=position
    )
    for split in ("EM", "Neutral"):
        acts = actlab.open_activations(dump.path, split)
        for place, row in enumerate(rows):
            # byte-level BPE never merges "?" and "\n" here, so the two parts can be counted apart
            n_prompt = len(tokenizer(row["prompt"])["input_ids"])
            n_newline = len(tokenizer("\n", add_special_tokens=False)["input_ids"])
            ids = tokenizer(row["prompt"] + "\n" + row[split])["input_ids"]
            truth, _ = tiny.oracle_states(model, family, ids)
            expected = {
                "prompt-last": truth[:, n_prompt - 1],
                "response-mean": truth[:, n_prompt + n_newline :].mean(dim=1),
                "mean": truth.mean(dim=1),
                "-3": truth[:, -3],
            }[position]
            saved = torch.stack([acts[layer][place] for layer in acts.layers])
            assert relative_errors(saved, expected).max() < TOLERANCE


def test_layer_0_is_the_first_blocks_output_and_the_last_comes_before_the_final_norm(llama, dataset, tmp_path):
    (dump,) = actlab.extract_activations(model=llama, dataset=dataset, output=tmp_path / "out", dtype="float32")
    acts = actlab.open_activations(dump.path, "EM")
    text = make_rows(20)[2]
    ids = tiny.make_tokenizer()(text["prompt"] + "\n" + text["EM"])["input_ids"]
    _, hidden_states = tiny.oracle_states(llama, "llama", ids)
    assert relative_errors(acts[0][2], hidden_states[1][0, -1]) < TOLERANCE
    assert relative_errors(acts[0][2], hidden_states[0][0, -1]) > 0.1, "the embedding is not layer 0"
    assert relative_errors(acts[1][2], hidden_states[1][0, -1]) > 0.1, "layer 1 is not layer 0"
    last = acts[tiny.N_LAYERS - 1][2]
    assert relative_errors(last, hidden_states[-1][0, -1]) > 0.1, "the final norm is not a block"
    model = tiny.transformers.AutoModel.from_pretrained(llama)
    with torch.no_grad():
        assert relative_errors(model.norm(last), hidden_states[-1][0, -1]) < TOLERANCE


def test_layers_deeper_than_asked_for_never_run(llama, dataset, tmp_path, monkeypatch):
    from transformers.models.llama import modeling_llama

    ran: set[int] = set()
    forward = modeling_llama.LlamaDecoderLayer.forward

    def spy(self, *args, **kwargs):
        ran.add(self.self_attn.layer_idx)
        return forward(self, *args, **kwargs)

    untested(monkeypatch)
    monkeypatch.setattr(modeling_llama.LlamaDecoderLayer, "forward", spy)
    (dump,) = actlab.extract_activations(model=llama, dataset=dataset, output=tmp_path, layers="0,1")
    assert ran == {0, 1}
    assert actlab.open_activations(dump.path, "EM").layers == (0, 1)


def test_a_multimodal_model_is_read_in_its_text_blocks(tmp_path, dataset):
    config = tiny.transformers.LlavaConfig(
        text_config=tiny.FAMILIES["llama"].config().to_dict(),
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": tiny.N_LAYERS,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
        },
    )
    model = tiny.transformers.AutoModelForImageTextToText.from_config(config)
    assert sum(p.numel() for p in model.parameters()) < tiny.MOST_PARAMETERS
    folder = tmp_path / "llava"
    model.save_pretrained(folder)
    tokenizer = tiny.make_tokenizer()
    tokenizer.save_pretrained(folder)
    (dump,) = actlab.extract_activations(model=folder, dataset=dataset, output=tmp_path / "out", dtype="float32")
    row = make_rows(20)[5]
    ids = torch.tensor([tokenizer(row["prompt"] + "\n" + row["EM"])["input_ids"]])
    with torch.no_grad():
        states = model.eval()(input_ids=ids, output_hidden_states=True).hidden_states
    acts = actlab.open_activations(dump.path, "EM")
    for layer in range(tiny.N_LAYERS - 1):
        assert relative_errors(acts[layer][5], states[layer + 1][0, -1]) < TOLERANCE


def test_a_tokenizer_that_is_not_the_models_own_is_refused(llama, dataset, tmp_path):
    folder = tmp_path / "mixed"
    config = tiny.FAMILIES["llama"].config()
    config.vocab_size = 100
    tiny.transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    with pytest.raises(actlab.ActlabError, match="the model knows 100"):
        actlab.extract_activations(model=folder, dataset=dataset, output=tmp_path / "out")


def test_a_checkpoint_that_lacks_weights_is_refused(llama, dataset, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "torn"
    shutil.copytree(llama, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(actlab.ActlabError, match="lacks 1 weights"):
        actlab.extract_activations(model=folder, dataset=dataset, output=tmp_path / "out")


def test_the_example_table_says_which_token_was_saved(llama, dataset, tmp_path):
    (dump,) = actlab.extract_activations(model=llama, dataset=dataset, output=tmp_path / "out")
    table: pd.DataFrame = actlab.open_activations(dump.path, "Neutral").examples
    tokenizer = tiny.make_tokenizer()
    for row, example in zip(make_rows(20), table.itertuples(), strict=True):
        ids = tokenizer(row["prompt"] + "\n" + row["Neutral"])["input_ids"]
        assert (example.n_tokens, example.position, example.last_token_id) == (
            len(ids),
            len(ids) - 1,
            ids[-1],
        )
        assert example.last_token == tokenizer.decode([ids[-1]])
    assert table["source_line"].tolist() == list(range(1, 21))
    assert Path(dump.path, "EM", "examples.parquet").is_file()
