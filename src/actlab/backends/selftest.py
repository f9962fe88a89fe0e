"""Before a run: how may its texts share a batch, and do the hooks read the model's own hidden states?"""

# t token, d model width, l layer

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from actlab.backends.capture import own_hidden_states
from actlab.backends.memory import is_out_of_memory
from actlab.backends.models import Backbone, Loading, load_backbone
from actlab.backends.proof import TOLERANCE, float32_cut, prove_padding, relative_error
from actlab.backends.reader import Reader, Span, TokenSpan, read_states
from actlab.ground.errors import ModelError, foreign_errors

log = logging.getLogger("actlab")


def load_reader(
    loading: Loading,
    layers: tuple[int, ...],
    texts: Sequence[Span],
    *,
    batch_size: int,
    batch_tokens: int,
    backbone: Backbone | None = None,
) -> Reader:
    """Load a model, if it is not there already, and test on a few of the run's texts how it is to be fed.

    At most `proof.BUDGET` times the tokens of the longest text are run for that. In half precision the padding is
    decided in float32, on the model's first blocks; quantised models are measured against their own noise.

    Raises:
        ModelError: It cannot be loaded or run, or the test fails.
    """
    backbone = backbone or load_backbone(loading)
    shortest, longest = (of(texts, key=lambda text: len(text.ids)) for of in (min, max))
    place = f"in 4 bits on {backbone.device.type}" if loading.load_in_4bit else f"on {backbone.device.type}"
    hint = "actlab gives a model tokens alone: does it want something else? Or try another --device"
    with foreign_errors(f"{loading.model.name} does not run {place}", hint=hint):
        truth = compare_hidden_states(backbone, shortest.ids)
    n_tokens = len(shortest.ids) + 2 * len(longest.ids)  # there and in `self_test`
    proof = prove_padding(
        _exact(backbone), loading.facts, texts, fresh=lambda: _exact(load_backbone(loading)), kept_back=n_tokens
    )
    reader = Reader(backbone, loading.facts, layers, batch_size, batch_tokens, proof.padding, proof.proven)
    error = max(proof.error, self_test(reader, shortest, longest, truth))
    n_tokens += proof.n_tokens
    log.info(
        "%s on %s in %s: padding %s; self-test on texts of %s tokens: alone and in a batch agree to %.0e "
        "(%d tokens run, %.1f times the longest)",
        *(loading.model.name, backbone.device.type, backbone.dtype, proof.padding),
        *(", ".join(map(str, proof.lengths)), error, n_tokens, n_tokens / len(longest.ids)),
    )
    return reader


def _exact(backbone: Backbone) -> Backbone:
    """Return what the padding is decided on: a float32 cut of a model in half precision."""
    if backbone.dtype.itemsize >= 4 or backbone.is_quantised:
        return backbone
    try:
        return float32_cut(backbone)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"{backbone.device.type} has no memory for the self-test, a float32 copy of the model's first blocks",
            hint="use --device cpu, a smaller model, or --load-in-4bit",
        ) from error


def self_test(reader: Reader, shortest: Span, longest: Span, truth: Sequence[Float[Tensor, "t d"]]) -> float:
    """Compare the shortest text beside the longest, as a reader runs them, with each block's own output, alone.

    Returns:
        The largest relative error over the layers, in the model's own dtype.

    Raises:
        ModelError: They disagree, so that the dump would be wrong.
    """
    last = [TokenSpan(tuple(text.ids), text.stop - 1, text.stop) for text in (shortest, longest)]
    truth_ld = torch.stack([truth[layer][shortest.stop - 1].cpu() for layer in reader.layers])
    error = relative_error(read_states(reader, last)[0], truth_ld)
    if not error < TOLERANCE[reader.backbone.dtype]:
        raise ModelError(
            f"self-test: the same rows batched and alone differ by {error:.1e} (relative)",
            hint="this model cannot be batched safely; give --batch-size 1, and please report it",
        )
    return error


def compare_hidden_states(backbone: Backbone, ids: Sequence[int]) -> list[Float[Tensor, "t d"]]:
    """Refuse hooks that do not read the model's own hidden states, and return what they read of each block.

    In most families `hidden_states[k + 1]` is block k's output; in some, [k]. The entry of the model's last
    block comes after the final norm and is not compared.

    Raises:
        ModelError: They do not, or the model needs weights that its checkpoint lacks.
    """
    hooks, states = own_hidden_states(backbone, torch.tensor(ids), None)
    if not states:
        log.warning("this model gives no hidden_states: its hooks could not be compared with them")
        return hooks
    compared = range(len(hooks) - 1)
    for shift in (1, 0):
        pairs = [(hooks[k], states[k + shift]) for k in compared if k + shift < len(states)]
        if all(relative_error(one, other) < TOLERANCE[backbone.dtype] for one, other in pairs):
            return hooks
    raise ModelError(
        "self-test: the blocks' outputs are not the model's own hidden_states",
        hint="actlab cannot read this architecture yet; please report it",
    )
