"""What actlab asks of a tokenizer: transformers' fast ones have it all, whatever their class."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class FastTokenizer(Protocol):
    """A fast tokenizer, as `transformers.PreTrainedTokenizerFast` is one."""

    bos_token_id: int | None
    eos_token_id: int | None
    eos_token: str | None
    model_max_length: int

    @property
    def backend_tokenizer(self) -> "Tokenizer":
        """The one of the tokenizers library inside it."""

    def __call__(
        self,
        text: str | list[str],
        /,
        *,
        add_special_tokens: bool = True,
        return_offsets_mapping: bool = False,
        return_special_tokens_mask: bool = False,
        return_attention_mask: bool | None = None,
        return_token_type_ids: bool | None = None,
        verbose: bool = True,
    ) -> Mapping[str, Any]:
        """Return `input_ids` and what else is asked for: a list, or of several texts a list of lists."""

    @property
    def all_special_tokens(self) -> list[str]:
        """Those that stand for no text."""

    def __len__(self) -> int:
        """Return the number of tokens that it knows."""

    def get_vocab(self) -> dict[str, int]:
        """Return the id of each token."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> object:
        """Return the text of some ids."""

    def get_chat_template(self) -> str:
        """Return the chat template, an error where there is none."""

    def apply_chat_template(
        self, conversation: Sequence[Mapping[str, object]], *, tokenize: bool, **more: object
    ) -> object:
        """Return the text of a conversation, where it is not to be tokenised; the template reads `more`."""

    def save_pretrained(self, save_directory: str | PathLike[str], /) -> object:
        """Write its files into a folder."""
