"""The tokenizer that small models get here: a byte-level BPE, trained on their own text."""

from collections.abc import Iterable

from actlab.backends.tokenizers import FastTokenizer

BOS = "<|bos|>"
EOS = "<|eos|>"
VOCAB_SIZE = 2048
"""Where nothing else is asked for."""
_MOST_CHARACTERS = 10_000
"""Of a text at a time: training takes time with the square of the longest word, and a text may be one word."""
_MOST_POSITIONS = 512
"""What a saved tokenizer says that its model takes, until a model says better."""


def train_tokenizer(documents: Iterable[str], vocab_size: int = VOCAB_SIZE) -> FastTokenizer:
    """Train a byte-level BPE tokenizer that puts one BOS before every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_pieces(documents), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    made: FastTokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=_MOST_POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    return made


def _pieces(documents: Iterable[str]) -> Iterable[str]:
    return (text[at : at + _MOST_CHARACTERS] for text in documents for at in range(0, len(text), _MOST_CHARACTERS))
