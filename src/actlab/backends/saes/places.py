"""Which block's output a hook means, by the names that SAE folders give it."""

import re

from actlab.ground.errors import ModelError

_TRANSFORMER_LENS = re.compile(r"blocks\.(?P<block>\d{1,4})\.hook_(?P<side>resid_post|resid_pre|out|in)")
"""TransformerLens; its bridge (from version 3) calls a block's two ends `hook_in` and `hook_out`."""
_MODULE = re.compile(
    r"(?:(?:model|transformer|gpt_neox|backbone|decoder|language_model|text_model)\.)*"
    r"(?:layers|h|blocks)\.(?P<block>\d{1,4})(?:\.(?P<side>output|input))?"
)
"""A block among the modules of a Hugging Face language model, as newer SAELens and Gemma Scope 2 name it."""
HINT = "actlab encodes what a block puts out: blocks.L.hook_resid_post, blocks.L+1.hook_resid_pre, model.layers.L"


def block_named(hook: str) -> int | None:
    """Return the number of the block whose input or output a hook reads, None for another place.

    >>> block_named("blocks.3.hook_resid_pre")
    3
    """
    match = _TRANSFORMER_LENS.fullmatch(hook) or _MODULE.fullmatch(hook)
    return int(match["block"]) if match else None


def layer_of(hook: str) -> int | None:
    """Return the block whose output a hook reads, None for another place; a block's input is the output before it.

    >>> layer_of("blocks.3.hook_resid_post"), layer_of("blocks.3.hook_resid_pre"), layer_of("model.layers.3")
    (3, 2, 3)
    >>> layer_of("blocks.3.hook_mlp_out"), layer_of("blocks.0.hook_resid_pre")
    (None, None)
    """
    match = _TRANSFORMER_LENS.fullmatch(hook) or _MODULE.fullmatch(hook)
    if match is None:
        return None
    layer = int(match["block"]) - (match["side"] in ("resid_pre", "in", "input"))
    return layer if layer >= 0 else None


def other_place(path: object, place: str) -> ModelError:
    """Return the refusal of an SAE that reads another place than a block's output."""
    return ModelError(f"{path} reads {place}, which is not the output of a block", hint=HINT)
