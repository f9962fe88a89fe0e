"""What a loaded module holds besides its weights: some models change themselves while they run."""

# BigBird replaces its attention by another kind, for good, when it meets a short text; rotary embeddings with scaling
# keep the longest input seen so far. A result must not depend on what was run before.

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_VALUES = (bool, int, float, str, type(None), Tensor)


@dataclass(frozen=True)
class _Kept:
    """One module as it was."""

    module: nn.Module
    children: dict[str, nn.Module | None]
    buffers: dict[str, Tensor | None]
    contents: dict[str, Tensor]
    versions: dict[str, int]
    values: dict[str, Any]
    n_attributes: int


class LoadedState:
    """Children, buffers, plain attributes and configs of a module, as they were when this was made.

    Weights are not kept: no forward pass writes them. Attributes with a leading underscore are transformers' own
    bookkeeping (its capturing hooks).
    """

    def __init__(self, module: nn.Module) -> None:
        self.was_changed = False
        """Whether any `restore` so far found something to put back."""
        self._modules = [_keep(one) for one in module.modules() if not _is_plain_leaf(one)]
        configs = {id(value): value for one in module.modules() for value in vars(one).values() if _is_config(value)}
        self._configs = [(config, copy.deepcopy(vars(config))) for config in configs.values()]

    def restore(self) -> None:
        """Put back whatever a forward pass has changed."""
        for kept in self._modules:
            if _differs(kept):
                self.was_changed = True
                _put_back(kept)
        for config, content in self._configs:
            if vars(config) != content:
                self.was_changed = True
                vars(config).clear()
                vars(config).update(copy.deepcopy(content))


def _is_plain_leaf(module: nn.Module) -> bool:
    """Whether a module is one of torch's own that keeps nothing: most of a model's modules are."""
    is_leaf = not module._modules and not module._buffers
    return is_leaf and type(module).__module__.startswith("torch.nn.")


def _is_config(value: object) -> bool:
    return hasattr(value, "to_dict") and hasattr(value, "model_type")


def _values(module: nn.Module) -> dict[str, Any]:
    return {key: value for key, value in vars(module).items() if not key.startswith("_") and isinstance(value, _VALUES)}


def _keep(module: nn.Module) -> _Kept:
    buffers = {key: value for key, value in module._buffers.items() if value is not None}
    return _Kept(
        module,
        dict(module._modules),
        dict(module._buffers),
        {key: value.clone() for key, value in buffers.items()},
        {key: value._version for key, value in buffers.items()},
        _values(module),
        len(vars(module)),
    )


def _differs(kept: _Kept) -> bool:
    module = kept.module
    buffers = module._buffers
    return not (
        _are_the_same(module._modules, kept.children)
        and _are_the_same(buffers, kept.buffers)
        and all(value is None or value._version == kept.versions[key] for key, value in buffers.items())
        and (_looks_the_same(module, kept) or _are_the_same(_values(module), kept.values))
    )


def _looks_the_same(module: nn.Module, kept: _Kept) -> bool:
    """Whether each attribute is the very object it was: most are, after most forward passes."""
    here = vars(module)
    return len(here) == kept.n_attributes and all(here.get(key) is value for key, value in kept.values.items())


def _are_the_same(here: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether two mappings hold the same objects, or equal ones where they are no tensors and no modules."""
    return here.keys() == there.keys() and all(
        value is there[key] or (not isinstance(value, Tensor | nn.Module) and value == there[key])
        for key, value in here.items()
    )


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
    for key, content in kept.contents.items():
        buffer = module._buffers[key]
        assert buffer is not None
        if not torch.equal(buffer, content):
            buffer.copy_(content)
        kept.versions[key] = buffer._version
