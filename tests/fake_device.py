"""A stand-in for an accelerator on a machine without one: strict about what lies where, and it counts.

Tensors lie in the host's memory and are computed there, so results are the CPU's. What is simulated is where a tensor
lies, followed by its storage from one operation to the next, and what follows from that:

- `.device` says mps:0 (which is not `torch.device("mps")`);
- on mps nothing is float64 or complex128: TypeError, in torch's own words;
- an operation on tensors there and here together is a RuntimeError; but a number (0-d) from here may join, a copy may
  go across, and what is there may be indexed by what is here, which is a copy;
- `numpy()` of what is there is a TypeError, a draw there by a generator of the CPU a RuntimeError, and a copy to the
  host shares no memory;
- copies each way are counted, and how often the host has to wait for the device.

Where the real one may be milder: a gradient does not go through a copy. A copy to the host that makes float64 of it in
the same call is refused by MPS too (torch 2.13, aten/src/ATen/native/mps/operations/Copy.mm), and the other way, where
the host changes the dtype first, is not.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

aten = torch.ops.aten
NO_FLOAT64 = (
    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
    "Please use float32 instead."
)
NOT_IMPLEMENTED = (
    "The operator '{}' is not currently implemented for the MPS device. If you want this op to be considered for "
    "addition please comment on https://github.com/pytorch/pytorch/issues/141287 and mention use-case, that resulted "
    "in missing op as well as commit hash {}. As a temporary fix, you can set the environment variable "
    "`PYTORCH_ENABLE_MPS_FALLBACK=1` to use the CPU as a fallback for this op. WARNING: this will be slower than "
    "running natively on MPS."
)
"""Both texts are torch's."""

WAITS = {
    aten._local_scalar_dense.default,  # item, float, int, bool
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
"""What the host cannot go on without: a number, or a shape that depends on the data."""
INDEXES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
COPIES = {aten.copy_.default, aten._foreach_copy_.default}
FROM_HOST = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}


@dataclasses.dataclass
class Counts:
    """What went across, and how often the host waited."""

    to_device: int = 0
    to_host: int = 0
    waits: int = 0
    """Every copy to the host is one, and every number or shape that had to be known."""

    def __sub__(self, other: "Counts") -> "Counts":
        mine, others = dataclasses.astuple(self), dataclasses.astuple(other)
        return Counts(*(a - b for a, b in zip(mine, others, strict=True)))


class FakeDevice:
    """The device, there while `with device():` lasts.

    `wrong` maps an operation to a function that is computed there in its stead, to play a faulty device; `absent`
    are operations that it lacks.
    """

    def __init__(
        self,
        kind: str = "mps",
        *,
        wrong: Mapping[Any, Callable[..., Any]] | None = None,
        absent: frozenset[Any] = frozenset(),
    ) -> None:
        self.place = torch.device(kind, 0)
        self.forbidden = {torch.float64, torch.complex128} if kind == "mps" else set()
        self.counts = Counts()
        self.wrong = dict(wrong or {})
        self.absent = absent
        self.makes_there = [False]
        """Whether a factory that is told no device makes its tensor there, by the call of torch's that is running."""
        self._there: dict[int, StorageWeakRef] = {}

    @contextlib.contextmanager
    def __call__(self) -> Iterator["FakeDevice"]:
        real = torch._C._group_tensors_by_device_and_dtype  # C++, which sees where they really are

        def grouped(lists, *rest):
            return {
                (self.place if self.has(next(filter(_is_tensor, tensors[0]))) else device, dtype): (tensors, indices)
                for (device, dtype), (tensors, indices) in real(lists, *rest).items()
            }

        torch._C._group_tensors_by_device_and_dtype = grouped
        try:
            with _Operations(self), _Calls(self):
                yield self
        finally:
            torch._C._group_tensors_by_device_and_dtype = real

    def has(self, tensor: Tensor) -> bool:
        """Say whether a tensor lies there."""
        with torch._C.DisableTorchFunction():
            return _key(tensor) in self._there

    def take(self, tensor: Tensor) -> Tensor:
        """Have a tensor lie there."""
        with torch._C.DisableTorchFunction():
            if tensor.dtype in self.forbidden:
                raise TypeError(NO_FLOAT64)
            key = _key(tensor)
            if key is not None and key not in self._there:
                self._there[key] = StorageWeakRef(tensor.untyped_storage())  # no other storage gets this address
        return tensor

    def copied_there(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Copy from the host, which changes the dtype first."""
        copied = self.take(_copied(tensor, dtype))
        self.counts.to_device += 1
        return copied

    def copied_here(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Copy to the host."""
        if dtype in self.forbidden:
            raise TypeError(NO_FLOAT64)
        self.counts.to_host += 1
        self.counts.waits += 1
        return _copied(tensor, dtype)


def _copied(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if torch.is_grad_enabled() and tensor.requires_grad:
        raise NotImplementedError("a gradient through a copy from one device to another")
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        return tensor.detach().to(dtype=dtype or tensor.dtype, copy=True)


def _is_tensor(one: object) -> bool:
    return isinstance(one, Tensor)


def _tensors(tree: Any) -> list[Tensor]:
    """Return the tensors in arguments or results: quicker than torch's own flattening, which knows more types."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, (tuple, list)):
        return []
    return [one for branch in tree for one in _tensors(branch)]


def _key(tensor: Tensor) -> int | None:
    """Return what a tensor shares with its views; None where it has no memory."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_meta:
        return None
    return tensor.untyped_storage()._cdata


class _Calls(TorchFunctionMode):
    """Python's side: what `.device` says, `to`, `numpy`, and the device that factories are told."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()
        self._device = device
        kind = device.place.type
        self._says = {
            Tensor.device.__get__: device.place,
            Tensor.is_cpu.__get__: False,
            Tensor.is_mps.__get__: kind == "mps",
            Tensor.is_cuda.__get__: kind == "cuda",
        }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        device, kwargs = self._device, kwargs or {}
        is_there = bool(args) and _is_tensor(args[0]) and device.has(args[0])
        if getattr(func, "__name__", "") == "__get__":
            return self._says[func] if is_there and func in self._says else func(*args)
        if is_there and func in (Tensor.numpy, Tensor.__array__):
            raise TypeError(
                f"can't convert {device.place} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
                "host memory first."
            )
        if is_there and func is Tensor.cpu:
            return device.copied_here(args[0])
        if is_there and func is Tensor.tolist:
            return device.copied_here(args[0]).tolist()
        if func is Tensor.to:
            return self._to(*args, **kwargs)
        if kwargs.get("device") is not None:
            return self._made(func, args, dict(kwargs))
        result = self._inside(any(map(device.has, _tensors((args, kwargs)))), func, *args, **kwargs)
        return device.take(result) if is_there and func is Tensor.__deepcopy__ else result  # that copies bytes

    def _inside(self, makes_there: bool, func, *args, **kwargs):
        self._device.makes_there.append(makes_there)
        try:
            return func(*args, **kwargs)
        finally:
            self._device.makes_there.pop()

    def _to(self, tensor, *args, device=None, other=None, dtype=None, **rest):
        """Part `to` into where and as what, as torch does."""
        fake = self._device
        given = [device, other, *args]
        dtype = dtype or next((one for one in given if isinstance(one, torch.dtype)), None)
        place = next(
            (one for one in given if isinstance(one, (str, int, torch.device, Tensor)) and one is not True), None
        )
        is_there = wants_there = fake.has(tensor)
        if _is_tensor(place):
            wants_there, dtype = fake.has(place), place.dtype
        elif place is not None:
            wants_there = torch.device(place).type == fake.place.type
            if torch.device(place).type == "meta":
                return tensor.to(place, dtype or tensor.dtype)
        if wants_there and not is_there:
            return fake.copied_there(tensor, dtype)
        if is_there and not wants_there:
            return fake.copied_here(tensor, dtype)
        rest.pop("non_blocking", None)
        return self._inside(is_there, Tensor.to, tensor, dtype=dtype or tensor.dtype, **rest)

    def _made(self, func, args, kwargs):
        """Make a tensor where it is told to be."""
        device = self._device
        if torch.device(kwargs["device"]).type != device.place.type:
            made = self._inside(False, func, *args, **kwargs)
            return _copied(made, None) if device.has(made) else made  # like one that lies there
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type == "cpu":
            raise RuntimeError(f"Expected a '{device.place.type}' device type for generator but found 'cpu'")
        is_copy = func in FROM_HOST and not any(map(device.has, _tensors(args)))
        made = self._inside(not is_copy, func, *args, **kwargs | {"device": "cpu"})
        return device.copied_there(made) if is_copy else made


class _Operations(TorchDispatchMode):
    """The device's side: every operation of torch's, those inside others and those of gradients too."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True, torch's default, has it import its compiler, for two seconds

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            return self._operate(func, args, kwargs or {})

    def _operate(self, func, args, kwargs):
        device, inputs = self._device, _tensors((args, kwargs))
        if not any(map(device.has, inputs)):
            result = func(*args, **kwargs)
            # a factory: inside a call that works there, or in a gradient
            if not inputs and (device.makes_there[-1] or torch._C._current_graph_task_id() != -1):
                self._take(result, inputs)
            return result
        if func in device.absent:
            raise NotImplementedError(NOT_IMPLEMENTED.format(func._schema.name, "0123abc"))
        if func in COPIES:
            self._count_copies(*map(_tensors, args[:2]))
            return func(*args, **kwargs)
        self._refuse_two_places(func, args, inputs)
        is_by_mask = func in INDEXES and any(one.dtype is torch.bool and device.has(one) for one in _tensors(args[1]))
        device.counts.waits += func in WAITS or is_by_mask
        result = device.wrong.get(func, func)(*args, **kwargs)
        self._take(result, inputs)
        return result

    def _take(self, result: Any, inputs: list[Tensor]) -> None:
        """Have what was made lie there; what is an input's lies where that does."""
        known = set(map(_key, inputs))
        for one in _tensors(result):
            if _key(one) not in known:
                self._device.take(one)

    def _refuse_two_places(self, func, args, inputs: list[Tensor]) -> None:
        device = self._device
        here = [one for one in inputs if one.ndim and not one.is_meta and not device.has(one)]
        indices = set(map(id, _tensors(args[1]))) if func in INDEXES and device.has(args[0]) else set()
        if any(id(one) not in indices for one in here):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{device.place} and cpu! (in {func})"
            )
        device.counts.to_device += len(here)

    def _count_copies(self, targets: list[Tensor], sources: list[Tensor]) -> None:
        device = self._device
        for target, source in zip(targets, sources, strict=True):
            comes, goes = device.has(source), device.has(target)
            if comes and not goes and target.dtype in device.forbidden:
                raise TypeError(NO_FLOAT64)
            device.counts.to_device += goes and not comes
            device.counts.to_host += comes and not goes
            device.counts.waits += comes and not goes
