"""What changes a result is in the identity, or refused, or said."""

import datetime
import json
import shutil

import pytest
import torch

import actlab
from actlab.activations import job as job_module
from actlab.activations import source as source_module
from actlab.activations.config import ExtractConfig
from actlab.activations.tokenise import Tokens
from actlab.backends import hub, models
from actlab.cli.show import _unlike
from actlab.ground.made_on import made_on, unlike_parts
from tests import tiny
from tests.conftest import make_rows, untested
from tests.folders import hashes

CLOCKED = (
    "{{ bos_token }}Today: {{ strftime_now('%d %b %Y') }}\n"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
)


@pytest.fixture
def clocked(llama, tmp_path):
    """A model whose chat template writes the date, as Llama 3's does."""
    folder = tmp_path / "clocked"
    shutil.copytree(llama, folder)
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = CLOCKED
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def on(monkeypatch):
    """Set the day."""
    untested(monkeypatch)

    def set_day(day):
        class Clock(datetime.date):
            @classmethod
            def today(cls):
                return cls.fromisoformat(day)

        monkeypatch.setattr(job_module, "date", Clock)

    return set_day


def extract(model, dataset, output, **settings):
    return actlab.extract_activations(model=model, dataset=dataset, output=output, shard_size=4, **settings)


def identity_in(dump):
    return json.loads((dump.path / "manifest.json").read_text())["identity"]


def test_a_template_that_writes_the_date_writes_the_day_on_which_the_dump_was_begun(
    clocked, write_rows, tmp_path, on, monkeypatch
):
    monkeypatch.setattr(source_module, "UNIT_LINES", 4)
    data = write_rows(make_rows(10))  # three units
    on("2026-07-31")
    (whole,) = extract(clocked, data, tmp_path / "whole", chat_template=True)
    (first,) = extract(clocked, data, tmp_path / "parts", chat_template=True, part="2/2")
    assert not first.is_sealed
    on("2026-08-01")
    (second,) = extract(clocked, data, tmp_path / "parts", chat_template=True, part="1/2")
    assert second.is_sealed
    assert hashes(second.path) == hashes(whole.path)
    assert identity_in(whole)["template_date"] == "2026-07-31"
    (again,) = extract(clocked, data, tmp_path / "whole", chat_template=True)
    assert again == whole, "the same dump, found the next day"
    (later,) = extract(clocked, data, tmp_path / "later", chat_template=True)
    assert identity_in(later)["template_date"] == "2026-08-01"
    (given,) = extract(clocked, data, tmp_path / "given", chat_template=True, template_date="2026-07-31")
    assert hashes(given.path) == hashes(whole.path)


def test_the_frozen_date_is_in_the_text_and_recomputing_takes_it(clocked, dataset, tmp_path):
    (dump,) = extract(clocked, dataset, tmp_path / "out", chat_template=True, template_date="1999-12-24")
    (text,) = actlab.preview_texts(
        model=clocked, dataset=dataset, chat_template=True, template_date="1999-12-24", preview=1
    )
    assert "Today: 24 Dec 1999" in text
    found = actlab.verify_dataset(dump.path, recompute=2, model=str(clocked), dataset=str(dataset))
    assert found.problems == []


@pytest.mark.parametrize(
    "start",
    [
        "",
        "\n",
        "\n\n",
        "  ",
        "  {% if true %}x{% endif %}\n",
        "{{ strftime_now(format='%Y') }}",
        "{{ strftime_now('%d\\n%Y') }}",
    ],
)
def test_stopping_the_clock_changes_nothing_else_in_a_template(start, clocked):
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = start + CLOCKED
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    theirs = tokenizer.apply_chat_template(messages, tokenize=False)
    today = datetime.date.today().isoformat()
    ours = Tokens(tokenizer, ExtractConfig(chat_template=True), 99, today)._render(messages)
    assert ours == theirs


def test_a_date_in_a_made_up_format_is_refused():
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = CLOCKED.replace("strftime_now('%d %b %Y')", "strftime_now('%d' ~ '%m')")
    with pytest.raises(actlab.ActlabError, match="makes up a format"):
        Tokens(tokenizer, ExtractConfig(chat_template=True), 99, "2026-07-31")


def test_a_template_without_a_date_adds_nothing_to_the_identity(llama, dataset, tmp_path, monkeypatch):
    untested(monkeypatch)
    folder = tmp_path / "plain"
    shutil.copytree(llama, folder)
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = CLOCKED.replace("strftime_now('%d %b %Y')", "'never'")
    tokenizer.save_pretrained(folder)
    (dump,) = extract(folder, dataset, tmp_path / "out", chat_template=True)
    assert "template_date" not in identity_in(dump)
    with pytest.raises(actlab.ActlabError, match="writes no date"):
        extract(folder, dataset, tmp_path / "out", chat_template=True, template_date="2026-07-31")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"template_date": "2026-07-31"}, "is for --chat-template"),
        ({"template_date": "31.7.", "chat_template": True}, "not a day"),
    ],
)
def test_a_date_that_cannot_be_is_refused(settings, says, llama, dataset, tmp_path):
    with pytest.raises(actlab.ActlabError, match=says):
        extract(llama, dataset, tmp_path / "out", **settings)


def test_a_model_with_an_adapter_in_its_folder_is_refused(llama, dataset, tmp_path):
    folder = tmp_path / "adapted"
    shutil.copytree(llama, folder)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))
    with pytest.raises(actlab.ActlabError, match="holds an adapter beside the model") as caught:
        extract(folder, dataset, tmp_path / "out")
    assert "merge_and_unload" in caught.value.hint
    (folder / "config.json").unlink()
    with pytest.raises(actlab.ActlabError, match="is an adapter"):
        extract(folder, dataset, tmp_path / "out")


def test_an_adapter_on_the_hub_is_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "adapter_config.json").write_text("{}")
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: tmp_path)
    with pytest.raises(actlab.ActlabError, match="somebody/lora is an adapter"):
        hub.find_model("somebody/lora")


def test_versions_kernels_and_the_kind_of_attention_are_kept(llama, dataset, tmp_path, monkeypatch):
    real = models.version_of
    monkeypatch.setattr(models, "version_of", lambda name: "2.8.1" if name == "flash-attn" else real(name))
    (dump,) = extract(llama, dataset, tmp_path / "out")
    (made,) = json.loads((dump.path / "manifest.json").read_text())["made_on"]
    assert made["attention"] == "sdpa"
    assert made["kernels"] == "flash-attn 2.8.1"
    assert {"torch", "transformers", "tokenizers", "device", "machine"} <= made.keys()


def test_units_made_under_different_versions_are_said(llama, write_rows, tmp_path, monkeypatch, caplog):
    untested(monkeypatch)
    monkeypatch.setattr(source_module, "UNIT_LINES", 4)
    data = write_rows(make_rows(5))
    extract(llama, data, tmp_path / "out", part="1/2")
    real = models.version_of
    monkeypatch.setattr(models, "version_of", lambda name: "9.9.9" if name == "transformers" else real(name))
    (dump,) = extract(llama, data, tmp_path / "out", part="2/2")
    assert "units were made under different versions or machines: transformers" in caplog.text
    shown = actlab.show_dataset(dump.path)
    assert "units were made under different versions or machines: transformers" in "".join(_unlike(shown))


def test_a_unit_of_which_nothing_was_left_ran_no_model_and_is_not_said(
    llama, write_rows, tmp_path, monkeypatch, caplog
):
    untested(monkeypatch)
    monkeypatch.setattr(source_module, "UNIT_LINES", 4)
    data = write_rows([*make_rows(4), {"nothing": 1}])
    (dump,) = extract(llama, data, tmp_path / "out")
    assert len(json.loads((dump.path / "manifest.json").read_text())["made_on"]) == 1
    assert "different versions" not in caplog.text


def test_environments_come_once_each():
    one, other = {"torch": "2.13.0", "device": "cpu"}, {"torch": "2.13.0", "device": "cuda", "cuda": "13.0"}
    assert made_on([other, one, dict(other)]) == [other, one]
    assert unlike_parts([one, other]) == ["device cpu / cuda", "cuda none / 13.0"]


def test_what_a_model_wants_besides_tokens_is_two_lines(dataset, tmp_path):
    config = tiny.transformers.IdeficsConfig(
        vocab_size=tiny.VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        cross_layer_interval=2,
        vision_config={
            "embed_dim": 32,
            "image_size": 16,
            "patch_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
        perceiver_config={
            "resampler_depth": 1,
            "resampler_n_latents": 2,
            "resampler_n_heads": 2,
            "resampler_head_dim": 8,
        },
    )
    folder = tiny.save_random(tmp_path / "idefics", config, tiny.transformers.AutoModelForImageTextToText)
    with pytest.raises(actlab.ActlabError, match=r"idefics does not run on cpu: .*pixel_values") as caught:
        extract(folder, dataset, tmp_path / "out")
    assert caught.value.hint


def test_a_missing_package_is_named_and_the_hint_says_to_install_it(llama, dataset, tmp_path):
    folder = tmp_path / "quantised"
    shutil.copytree(llama, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(actlab.ActlabError, match="requires optimum") as caught:
        extract(folder, dataset, tmp_path / "out")
    assert "install the package" in caught.value.hint


def lacking(llama, folder, key):
    from safetensors.torch import load_file, save_file

    shutil.copytree(llama, folder)
    weights = load_file(folder / "model.safetensors")
    del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_final_norm_that_no_block_needs_may_be_missing(llama, dataset, tmp_path):
    (whole,) = extract(llama, dataset, tmp_path / "whole")
    folder = lacking(llama, tmp_path / "headless", "model.norm.weight")
    (dump,) = extract(folder, dataset, tmp_path / "out")
    for layer in range(tiny.N_LAYERS):
        one, other = (actlab.open_activations(one.path, "EM")[layer][:] for one in (whole, dump))
        assert torch.equal(one, other)


def test_weights_that_run_before_the_last_block_may_not_be_missing(tmp_path, dataset):
    bloom = tiny.make_model(tmp_path / "bloom", "bloom")
    folder = lacking(bloom, tmp_path / "torn", "transformer.word_embeddings_layernorm.weight")
    with pytest.raises(actlab.ActlabError, match="lacks 1 weights, word_embeddings_layernorm"):
        extract(folder, dataset, tmp_path / "out")


def test_a_model_of_parallel_streams_is_refused_for_its_streams(dataset, tmp_path):
    config = tiny.transformers.DeepseekV4Config(
        vocab_size=tiny.VOCAB_SIZE,
        hidden_size=32,
        moe_intermediate_size=16,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        q_lora_rank=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=256,
        o_groups=2,
        o_lora_rank=8,
        index_n_heads=2,
        index_head_dim=16,
        index_topk=8,
        qk_rope_head_dim=8,
        sliding_window=16,
    )
    folder = tiny.save_random(tmp_path / "v4", config)
    with pytest.raises(actlab.ActlabError, match=r"block 0 returns no \[batch, token, width\] tensor"):
        extract(folder, dataset, tmp_path / "out")


def test_a_tokenizer_without_its_files_is_refused(tmp_path, dataset):
    folder = tiny.make_model(tmp_path / "bert", "bert")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(actlab.ActlabError, match="tokenizer of bert"):
        extract(folder, dataset, tmp_path / "out")


def test_a_quantisation_that_transformers_would_skip_is_refused(llama, dataset, tmp_path):
    folder = tmp_path / "strange"
    shutil.copytree(llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "nonsense"}}))
    with pytest.raises(actlab.ActlabError, match="quantised by 'nonsense'"):
        extract(folder, dataset, tmp_path / "out")


def test_a_weight_of_another_shape_is_named_with_both_shapes(llama, dataset, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "misfit"
    shutil.copytree(llama, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] = torch.zeros(5, 7)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(actlab.ActlabError, match=r"layers.1.mlp.up_proj.weight \(\[5, 7\] there, \[48, 32\] by"):
        extract(folder, dataset, tmp_path / "out")


def test_what_was_finished_before_a_model_failed_is_said(llama, dataset, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(llama, bad)
    (bad / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(actlab.ActlabError) as caught:
        extract((llama, bad), dataset, tmp_path / "out")
    assert [one.path for one in caught.value.done] == [tmp_path / "out" / "tiny-llama" / "data"]
