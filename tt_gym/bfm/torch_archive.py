"""Reading ``torch.save`` files of others without running anything they contain.

A PyTorch checkpoint is a zip of raw storages beside a pickle, and a pickle is a program. PyTorch's
own restricted reader (``weights_only=True``) comes first; it refuses files that hold objects of any
library beside their weights. The reader here then goes through the pickle itself: it builds plain
containers, tensors whose extent has been checked, and for every other class an inert stub.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tt_gym.checkpoint import CheckpointError

ZIP_MAGIC = b"PK\x03\x04"
_PICKLE = "data.pkl"

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# What checkpoints hold beside weights; anything else of the standard library is an attack.
_DATA_MODULES = frozenset(
    "argparse collections copyreg datetime decimal enum pathlib typing types uuid".split()
)
_DATA_BUILTINS = frozenset(
    "bool bytearray bytes complex dict float frozenset int list long object range set slice str "
    "tuple unicode".split()
)
_PUT_OPCODES = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GET_OPCODES = frozenset(("GET", "BINGET", "LONG_BINGET"))
_LARGEST_TUPLE = 10_000  # entries, those of tuples within it included


class _Stub:
    """Stands for an object of a class that is not built; takes whatever a pickle does to it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Stub:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _ignore(self, *args: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _ignore


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something that no weights need."""


class _RestrictedUnpickler(pickle.Unpickler):
    """Builds containers, numbers, strings, tensors and stubs."""

    def __init__(self, data: bytes, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(data))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return self._rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return self._rebuild_parameter
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        package = module.partition(".")[0]
        harmless = name in _DATA_BUILTINS if package == "builtins" else package in _DATA_MODULES
        if package in sys.stdlib_module_names and not harmless:
            raise _Refused(f"the file asks Python to run {module}.{name}")
        return type("_Stub", (_Stub,), {})  # fresh, so that no pickle can change a shared one

    def persistent_load(self, pid: Any) -> Tensor:
        """The raw storage as a flat tensor."""
        kind, dtype, key, _, numel = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown storage {kind!r}")
        data = self._archive.read(f"{self._folder}data/{key}")
        if len(data) != numel * dtype.itemsize:
            raise pickle.UnpicklingError(f"storage {key!r} holds {len(data)} bytes, not {numel}")
        return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0).to(dtype)

    def _rebuild_tensor(
        self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> Tensor:
        return storage.as_strided(size, stride, offset)  # checks that it lies in the storage

    def _rebuild_parameter(self, tensor: Tensor, *_: Any) -> Tensor:
        return tensor


def read_torch_archive(path: str | Path) -> Any:
    """What ``torch.save`` wrote, on the CPU: containers, numbers, strings, tensors, inert stubs.

    Nothing in the file is executed and no class of it is imported.

    Raises:
        CheckpointError: not a zip checkpoint, corrupt, or asking for code to be run.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, Path(path).stat().st_size)
            name = next(item for item in archive.namelist() if item.rpartition("/")[2] == _PICKLE)
            data = archive.read(name)
            _check_pickle(data)
            try:
                if b"bytearray" in data:  # PyTorch's reader would reserve as much as it is told to
                    raise pickle.UnpicklingError("bytearray")
                return torch.load(path, map_location="cpu", weights_only=True)
            except Exception:
                return _read_restricted(archive, data, name.removesuffix(_PICKLE))
    except _Refused as error:
        raise CheckpointError(
            f"{path}: {error}, which weights do not need; nothing was run, do not trust the file"
        ) from error
    # a corrupt pickle can fail in any way a program can
    except Exception as error:
        raise CheckpointError(
            f"{path}: corrupt or not a PyTorch checkpoint ({type(error).__name__}: {error})"
        ) from error


def _check_sizes(archive: zipfile.ZipFile, file_size: int) -> None:
    """PyTorch stores without compression: refuse what would unpack to more than the file holds."""
    entries = archive.infolist()
    stored = all(item.compress_type == zipfile.ZIP_STORED for item in entries)
    if not stored or sum(item.file_size for item in entries) > file_size:
        raise zipfile.BadZipFile("its entries are compressed or overlap")


def _check_pickle(data: bytes) -> None:
    """Refuse what takes memory or time out of all proportion to its length.

    Python reserves memory up to the highest index of a memo, and goes through a tuple entry by
    entry to hash or print it, however often the same tuple is in it.
    """
    stack: list[int | None] = []  # size of every object, None for a mark
    memo: dict[Any, int | None] = {}
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _PUT_OPCODES:
            if argument is None or argument > len(data):
                raise pickle.UnpicklingError(f"memo index {argument} in {len(data)} bytes")
            memo[argument] = stack[-1]
            continue
        size = 1 + _take(stack, opcode)
        if not opcode.name.startswith("TUPLE"):
            size = 1
        elif size > _LARGEST_TUPLE:
            raise pickle.UnpicklingError("tuples within tuples beyond all measure")
        for item in opcode.stack_after:
            stack.append(None if item is pickletools.markobject else size)
        if opcode.name in _GET_OPCODES:
            stack[-1] = memo.get(argument, 1)
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = stack[-1]


def _take(stack: list[int | None], opcode: pickletools.OpcodeInfo) -> int:
    """Take from the stack what an opcode does, and return the sum of its sizes."""
    total = 0
    for item in reversed(opcode.stack_before):
        if item is pickletools.stackslice:
            while (top := stack[-1]) is not None:
                stack.pop()
                total += top
        else:
            total += stack.pop() or 0
    return total


def _read_restricted(archive: zipfile.ZipFile, data: bytes, folder: str) -> Any:
    if f"{folder}byteorder" in archive.namelist():
        order = archive.read(f"{folder}byteorder")
        if order != b"little":
            raise pickle.UnpicklingError(f"byte order {order!r} is not supported")
    return _RestrictedUnpickler(data, archive, folder).load()
