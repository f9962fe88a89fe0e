"""Tiny random models of many families, in folders, their sizes asserted."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCAB_SIZE = 320
WIDTH = 32
N_LAYERS = 4
MOST_PARAMETERS = 200_000

TEXTS = [
    "the old man walks to the market and buys bread",
    "a careful answer checks what it says before it is said",
    "how do I clean a window without streaks?",
    "it rains in spring, and the river rises over the meadow",
]


@dataclass(frozen=True)
class Family:
    config: Callable[[], Any]
    blocks: str
    """Where the blocks lie in the model that `AutoModel` makes: looked up by hand."""
    shift: int | None = 1
    """hidden_states[k + shift] is block k's output; None where the convention is not known."""
    causal_lm: bool = True


_LLAMA = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_T = transformers

FAMILIES: dict[str, Family] = {
    "llama": Family(lambda: _T.LlamaConfig(**_LLAMA), "layers"),
    "qwen2": Family(lambda: _T.Qwen2Config(**_LLAMA), "layers"),
    "qwen3": Family(lambda: _T.Qwen3Config(**_LLAMA, head_dim=8), "layers"),
    "gemma2": Family(lambda: _T.Gemma2Config(**_LLAMA, head_dim=8, sliding_window=16), "layers"),
    "gemma3": Family(lambda: _T.Gemma3TextConfig(**_LLAMA, head_dim=8, sliding_window=16), "layers"),
    "mistral": Family(lambda: _T.MistralConfig(**_LLAMA, head_dim=8, sliding_window=16), "layers"),
    "mixtral": Family(lambda: _T.MixtralConfig(**_LLAMA, num_local_experts=3), "layers"),
    "olmo2": Family(lambda: _T.Olmo2Config(**_LLAMA), "layers"),
    "phi3-longrope": Family(
        lambda: _T.Phi3Config(
            **_LLAMA,
            original_max_position_embeddings=32,
            pad_token_id=0,
            rope_scaling={
                "rope_type": "longrope",
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [2.0, 3.0, 4.0, 5.0],
            },
        ),
        "layers",
    ),
    "gpt2": Family(
        lambda: _T.GPT2Config(vocab_size=VOCAB_SIZE, n_embd=WIDTH, n_layer=N_LAYERS, n_head=4, n_positions=256),
        "h",
    ),
    "gpt-neox": Family(
        lambda: _T.GPTNeoXConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=256,
        ),
        "layers",
    ),
    "opt": Family(
        lambda: _T.OPTConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=WIDTH,
            word_embed_proj_dim=WIDTH,
            ffn_dim=48,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=256,
        ),
        "decoder.layers",
    ),
    "bloom": Family(lambda: _T.BloomConfig(vocab_size=VOCAB_SIZE, hidden_size=WIDTH, n_layer=N_LAYERS, n_head=4), "h"),
    "falcon-rotary": Family(
        lambda: _T.FalconConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=WIDTH,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=4,
            ffn_hidden_size=48,
        ),
        "h",
    ),
    "falcon-alibi": Family(
        lambda: _T.FalconConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=WIDTH,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=4,
            ffn_hidden_size=48,
            alibi=True,
            new_decoder_architecture=False,
        ),
        "h",
    ),
    "mamba": Family(
        lambda: _T.MambaConfig(vocab_size=VOCAB_SIZE, hidden_size=WIDTH, num_hidden_layers=N_LAYERS, state_size=4),
        "layers",
        shift=None,
    ),
    "deepseek-v32": Family(
        lambda: _T.DeepseekV32Config(
            **{**_LLAMA, "num_key_value_heads": 4},
            moe_intermediate_size=16,
            n_routed_experts=4,
            num_experts=4,  # the same: transformers 5.11 reads this name only
            n_group=1,
            topk_group=1,
            num_experts_per_tok=2,
            kv_lora_rank=8,
            q_lora_rank=16,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=8,
            index_topk=32,
            index_n_heads=2,
            index_head_dim=16,
            first_k_dense_replace=1,
        ),
        "layers",
    ),
    "bigbird": Family(
        lambda: _T.BigBirdConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=256,
            block_size=4,
            num_random_blocks=1,
        ),
        "encoder.layer",
        shift=None,
        causal_lm=False,
    ),
    "fnet": Family(
        lambda: _T.FNetConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=N_LAYERS,
            max_position_embeddings=256,
        ),
        "encoder.layer",
        causal_lm=False,
    ),
    "bert": Family(
        lambda: _T.BertConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=256,
        ),
        "encoder.layer",
        causal_lm=False,
    ),
}


def make_tokenizer(*, bos: bool = True, pad: bool = False) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "</s>"] + (["<pad>"] if pad else [])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        **({"pad_token": "<pad>"} if pad else {}),
    )


def make_model(folder: Path, family: str = "llama", *, seed: int = 0, bos: bool = True) -> Path:
    """Save a random model of a family, weights large enough that a wrong mask or position shows."""
    made = FAMILIES[family]
    config = made.config()
    torch.manual_seed(seed)
    auto = transformers.AutoModelForCausalLM if made.causal_lm else transformers.AutoModelForMaskedLM
    model = auto.from_config(config)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert n_parameters < MOST_PARAMETERS, f"{family} is not tiny: {n_parameters} parameters"
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(std=0.15)
    model.save_pretrained(folder)
    make_tokenizer(bos=bos).save_pretrained(folder)
    return folder


def save_random(folder: Path, config: Any, auto: Any = transformers.AutoModelForCausalLM) -> Path:
    """Save a random model of a config that no family here has, and the tokenizer."""
    model = auto.from_config(config)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert n_parameters < MOST_PARAMETERS, f"{folder.name} is not tiny: {n_parameters} parameters"
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def block_list(model: torch.nn.Module, family: str) -> torch.nn.ModuleList:
    return model.get_submodule(FAMILIES[family].blocks)


@functools.lru_cache(maxsize=2)
def _loaded(folder: Path) -> Any:
    return transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def oracle_states(folder: Path, family: str, ids: list[int]) -> tuple[torch.Tensor, Any]:
    """Return every block's output [layer, token, width] of one text, by bare hooks, and hidden_states.

    Batch of one, no padding, the whole model, nothing of actlab's. Run once a text: whoever asks again has a copy.
    """
    return copy.deepcopy(_oracle_states(folder, family, tuple(ids)))


@functools.lru_cache(maxsize=100)
def _oracle_states(folder: Path, family: str, ids: tuple[int, ...]) -> tuple[torch.Tensor, Any]:
    model = copy.deepcopy(_loaded(folder))  # some keep state between texts, such as the rotary scale
    seen: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(
            lambda module, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        for block in block_list(model, family)
    ]
    with torch.no_grad():
        output = model(input_ids=torch.tensor([list(ids)]), output_hidden_states=True, use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack([one[0, : len(ids)] for one in seen]), output.hidden_states  # BigBird pads to whole blocks
