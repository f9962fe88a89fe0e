"""What a loaded module holds besides its weights: some models change themselves while they run."""

# BigBird replaces its attention by another kind, for good, when it meets a short text; rotary embeddings with scaling
# keep the longest input seen so far. A result must not depend on what was run before.

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from actlab.ground.errors import ModelError

_SMALL = 4096
"""Numbers in a buffer that is copied though the checkpoint has it."""
_VALUES = (bool, int, float, str, type(None), Tensor)


@dataclass(frozen=True)
class _Kept:
    """One module as it was."""

    module: nn.Module
    children: dict[str, nn.Module | None]
    buffers: dict[str, Tensor | None]
    values: dict[str, object]
    n_attributes: int
    tensors: dict[int, "_KeptTensor"]
    """Its buffers and plain tensors, by identity."""


@dataclass
class _KeptTensor:
    tensor: Tensor
    version: int | None
    """Torch's count of writes into it; None where it keeps none."""
    content: Tensor | None
    """A copy, of what is no part of the checkpoint: packed weights may be buffers too."""


class LoadedState:
    """Children, buffers, plain attributes and configs of a module, as they were when this was made.

    Weights are not kept: no forward pass writes them. Attributes with a leading underscore are transformers' own
    bookkeeping (its capturing hooks).
    """

    def __init__(self, module: nn.Module) -> None:
        self._modules = [_keep(one) for one in module.modules() if not _is_plain_leaf(one)]
        configs = {id(value): value for one in module.modules() for value in vars(one).values() if _is_config(value)}
        self._configs = [(config, _copied(vars(config))) for config in configs.values()]

    def restore(self) -> None:
        """Put back whatever a forward pass has changed.

        Raises:
            ModelError: That cannot be done.
        """
        for kept in self._modules:
            if _differs(kept):
                _put_back(kept)
                if _differs(kept):
                    raise ModelError(
                        f"running a text changes the model's own state ({type(kept.module).__name__}) in a way that "
                        "cannot be put back",
                        hint="its results would depend on what was run before: actlab cannot read this architecture",
                    )
        for config, settings in self._configs:
            if not _are_the_same(vars(config), settings):
                vars(config).clear()
                vars(config).update(_copied(settings))


def _is_plain_leaf(module: nn.Module) -> bool:
    """Whether a module is one of torch's own that keeps nothing: most of a model's modules are."""
    is_leaf = not module._modules and not module._buffers
    return is_leaf and type(module).__module__.startswith("torch.nn.")


def _is_config(value: object) -> bool:
    return hasattr(value, "to_dict") and hasattr(value, "model_type")


def _copied(settings: dict[str, object]) -> dict[str, object]:
    return {key: copy.deepcopy(one) if isinstance(one, dict | list) else one for key, one in settings.items()}


def _values(module: nn.Module) -> dict[str, object]:
    return {key: value for key, value in vars(module).items() if not key.startswith("_") and isinstance(value, _VALUES)}


def _keep(module: nn.Module) -> _Kept:
    values, buffers = _values(module), dict(module._buffers)
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    tensors += [value for value in buffers.values() if value is not None]
    saved = {id(value) for key, value in buffers.items() if key not in module._non_persistent_buffers_set}
    kept = {
        id(one): _KeptTensor(one, _version(one), None if id(one) in saved and one.numel() > _SMALL else one.clone())
        for one in tensors
    }
    return _Kept(module, dict(module._modules), buffers, values, len(vars(module)), kept)


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _differs(kept: _Kept) -> bool:
    module = kept.module
    return not (
        _are_the_same(module._modules, kept.children)
        and _are_the_same(module._buffers, kept.buffers)
        and (_looks_the_same(module, kept) or _are_the_same(_values(module), kept.values))
        and all(one.version is None or one.tensor._version == one.version for one in kept.tensors.values())
    )


def _looks_the_same(module: nn.Module, kept: _Kept) -> bool:
    """Whether each attribute is the very object it was: a fifth of the time that comparing them takes."""
    here = vars(module)
    return len(here) == kept.n_attributes and all(here.get(key) is value for key, value in kept.values.items())


def _are_the_same(here: Mapping[str, object], there: Mapping[str, object]) -> bool:
    """Whether two mappings hold the same objects, or equal ones where they are no tensors and no modules."""
    return here.keys() == there.keys() and all(_is_the_same(value, there[key]) for key, value in here.items())


def _is_the_same(one: object, other: object) -> bool:
    if one is other:
        return True
    return type(one) is type(other) and not isinstance(one, Tensor | nn.Module) and bool(one == other)


@torch.no_grad()
def _put_back(kept: _Kept) -> None:
    module = kept.module
    for key in _values(module).keys() - kept.values.keys():
        delattr(module, key)
    vars(module).update(kept.values)
    module._modules.clear()
    module._modules.update(kept.children)
    module._buffers.clear()
    module._buffers.update(kept.buffers)
    for one in kept.tensors.values():
        if one.content is not None and one.version is not None and one.tensor._version != one.version:
            one.tensor.copy_(one.content)
            one.version = one.tensor._version
