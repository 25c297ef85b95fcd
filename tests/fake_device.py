"""A stand-in for an accelerator, so that tests without one find tensors in the wrong place.

Inside :func:`fake_device` every tensor is either in the machine's memory or *on the device*, as its
storage is marked. Values are real and lie in the machine's memory, so that whole programs run; the
rules are those of an accelerator:

- a tensor is on the device if it was brought there (``to``, ``cuda``, ``device=``), or is what an
  operator made of tensors that are there. What is made without ``device=`` is not;
- operators on tensors of both places raise, but for copies and for numbers (tensors without
  dimensions), which elementwise operators take from anywhere; stricter than CUDA, indices must
  lie beside what they index, as it would wait for them;
- nothing on the device becomes a NumPy array, and no generator of the CPU draws there;
- ``device``, ``is_cuda`` and ``is_cpu`` tell where a tensor is.

What makes a program wait for the device (``item``, ``cpu``, ``nonzero``, ...) is noted in
``waits``. Threads that begin inside know the device, too; other processes do not. Gradients of a
copy from one place to the other stay where they came.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_MARK = "_on_the_fake_device"
_COPY, _CONVERT = torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default
#: What takes numbers of the machine's memory beside tensors on the device, as elementwise
#: operators do.
_TAKES_NUMBERS = ("fill_", "masked_fill", "index_put", "_index_put", "_foreach", "_fused_adam")
#: What has as many results as values say, or is a value.
_WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique", "equal")
#: What may keep the memory of an array.
_SHARES = (torch.as_tensor, torch.asarray)


class WrongPlaceError(RuntimeError):
    """What an accelerator would refuse."""


@dataclass
class FakeDevice:
    """The device while it is there.

    Attributes:
        device: What it is called.
        waits: What made the program wait for the device, in order.
    """

    device: torch.device
    waits: list[str] = field(default_factory=list)

    def names(self, value: Any) -> bool | None:
        """Whether a value names this device; None if it names none."""
        try:
            return torch.device(value).type == self.device.type
        except (RuntimeError, TypeError):
            return None


def is_there(tensor: Tensor) -> bool:
    """Whether a tensor is on the device."""
    if tensor.layout != torch.strided or tensor.is_meta:
        return False
    return getattr(tensor.untyped_storage(), _MARK, False)


def _tensors(values: Any) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def _mark(results: Any) -> None:
    for tensor in _tensors(results):
        if not tensor.is_meta:
            setattr(tensor.untyped_storage(), _MARK, True)


class _Operators(TorchDispatchMode):
    """Refuses operators on tensors of two places, and marks what those on the device make."""

    def __init__(self, there: FakeDevice) -> None:
        super().__init__()
        self._there = there
        #: Where everything goes that is made now: on the device or not; None for the rule.
        self.target: bool | None = None
        #: Whether a function on the device is at work, which makes its own tensors there.
        self.inside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        on = [is_there(x) for x in given]
        if func is _COPY:
            if on == [False, True]:
                self._there.waits.append("copy_")
            return func(*args, **kwargs)
        if any(on) and func is not _CONVERT:
            self._check(func, args, kwargs, given, on)
        results = func(*args, **kwargs)
        made_there = any(on) if given else self.inside
        if made_there if self.target is None else self.target:
            _mark(results)
        return results

    def _check(
        self, func: Any, args: Any, kwargs: Any, given: list[Tensor], on: list[bool]
    ) -> None:
        name = func.overloadpacket.__name__
        takes_numbers = torch.Tag.pointwise in func.tags or name.startswith(_TAKES_NUMBERS)
        elsewhere = [x for x, there in zip(given, on, strict=True) if not there]
        written = kwargs.get("out") if "out" in kwargs else given[0] if _writes(func) else None
        if any(x.ndim or not takes_numbers or x is written for x in elsewhere):
            places = [
                f"{tuple(x.shape)} {'on the device' if there else 'in memory'}"
                for x, there in zip(given, on, strict=True)
            ]
            raise WrongPlaceError(f"{func} joins tensors of two places: {', '.join(places)}")
        if kwargs.get("generator") is not None:
            raise WrongPlaceError(f"{func} draws on the device by a generator of the CPU")
        if name.startswith(_WAITS) or (name.startswith(("index", "_index")) and _masks(args)):
            self._there.waits.append(name)


def _writes(func: Any) -> bool:
    """Whether an operator writes into its first argument."""
    arguments = func._schema.arguments
    return bool(arguments and arguments[0].alias_info and arguments[0].alias_info.is_write)


def _masks(args: Any) -> bool:
    """Whether an index holds masks, which are searched, but where a number fills them."""
    fills = len(args) > 2 and isinstance(args[2], Tensor) and args[2].numel() == 1
    return not fills and any(x.dtype == torch.bool for x in _tensors(args[1:2]))


class _Functions(TorchFunctionMode):
    """What a program is told of tensors, and where it brings them."""

    def __init__(self, there: FakeDevice, operators: _Operators) -> None:
        super().__init__()
        self._there = there
        self._operators = operators

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args and isinstance(args[0], Tensor) else None
        there = first is not None and is_there(first)
        if there and (told := self._told(func)) is not None:
            return told
        if there:
            self._refuse(func, kwargs)
        if func is Tensor.pin_memory:
            return first
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._brought(func, args, kwargs)
        target = there if func is Tensor.new_tensor else None
        if kwargs.get("device") is not None:
            target = self._there.names(kwargs["device"])
            if target:
                kwargs["device"] = torch.device("cpu")
        with self._making(target, inside=any(map(is_there, _tensors((args, kwargs))))):
            results = func(*args, **kwargs)
            if target and func in _SHARES:
                results = results.clone()
        if there and func is Tensor.__deepcopy__:
            _mark(results)
        return results

    def _refuse(self, func: Any, kwargs: dict[str, Any]) -> None:
        """Refuse or note what is asked of a tensor on the device."""
        if func is Tensor.__array__ or (func is Tensor.numpy and not kwargs.get("force")):
            raise WrongPlaceError("a tensor on the device is no NumPy array until it is copied")
        if func is Tensor.pin_memory:
            raise WrongPlaceError("only what is in the machine's memory can be pinned")
        if func is Tensor.tolist:
            self._there.waits.append("tolist")

    def _told(self, func: Any) -> Any:
        """What a tensor on the device says where it is; None of anything else."""
        asked = getattr(func, "__self__", None)
        kind = self._there.device.type
        for attribute, told in (
            (Tensor.device, self._there.device),
            (Tensor.is_cuda, kind == "cuda"),
            (Tensor.is_mps, kind == "mps"),
            (Tensor.is_cpu, False),
        ):
            if asked is attribute:
                return told
        return None

    def _brought(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A tensor where it is wanted: itself if it is there."""
        source, *rest = args
        if func is not Tensor.to:
            names: tuple[str, ...] = ("non_blocking", "memory_format")
            kwargs["device"] = "cpu" if func is Tensor.cpu else "cuda"
            rest = rest[func is Tensor.cuda :]
        elif rest and isinstance(rest[0], torch.dtype):
            names = ("dtype", "non_blocking", "copy")
        elif rest and isinstance(rest[0], Tensor):
            names = ("device", "non_blocking", "copy")
            kwargs["dtype"] = rest[0].dtype
            rest = [rest[0].device if not is_there(rest[0]) else self._there.device, *rest[1:]]
        else:
            names = ("device", "dtype", "non_blocking", "copy")
        kwargs |= dict(zip(names, rest, strict=False))
        named = kwargs.pop("device", None)
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        if named is None:
            return Tensor.to(source, **kwargs)
        wanted = self._there.names(named)
        if not wanted and torch.device(named).type != "cpu":
            return Tensor.to(source, named, **kwargs)
        if wanted == is_there(source):
            return Tensor.to(source, "cpu", **kwargs)
        if not wanted:
            self._there.waits.append("cpu")
        with self._making(wanted, inside=bool(wanted)):
            return Tensor.to(source, "cpu", **(kwargs | {"copy": True}))

    @contextmanager
    def _making(self, target: bool | None, *, inside: bool) -> Iterator[None]:
        operators = self._operators
        before = operators.target, operators.inside
        operators.target, operators.inside = target, inside
        try:
            yield
        finally:
            operators.target, operators.inside = before


@contextmanager
def _known(there: FakeDevice) -> Iterator[None]:
    """Let this thread know the device."""
    operators = _Operators(there)
    with operators, _Functions(there, operators):
        yield


@contextmanager
def fake_device(name: str = "cuda") -> Iterator[FakeDevice]:
    """Let there be a device of a name while the block lasts.

    Args:
        name: ``cuda`` where a program is to do as it does on a GPU; ``mps``, of which nothing but
            tensors is asked, where it would ask CUDA itself for streams or memory.
    """
    there = FakeDevice(torch.device(name))
    run = threading.Thread.run

    def run_with_device(thread: threading.Thread) -> None:
        with _known(there):
            run(thread)

    with mock.patch.object(threading.Thread, "run", run_with_device), _known(there):
        yield there
