"""The pickle inside a PyTorch file, read without torch and without calling anything that the file names.

Python's unpickler asks `find_class` for every callable. Only a handful of names get a meaning here (ordered dictionaries,
tensor builders, storage types, dtypes), and that meaning is ours. Every other name becomes an inert stand-in that stores
its arguments, so `argparse.Namespace`, mmengine's meta data or a whole pickled nn.Module do no harm and do not stop the
reader; names that only an attack would use are refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections import OrderedDict
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from rein_jax.errors import UserError

DTYPES = {
    "float32": np.float32, "float": np.float32, "float64": np.float64, "double": np.float64, "float16": np.float16,
    "half": np.float16, "bfloat16": ml_dtypes.bfloat16, "int8": np.int8, "uint8": np.uint8, "int16": np.int16,
    "short": np.int16, "int32": np.int32, "int": np.int32, "int64": np.int64, "long": np.int64, "bool": np.bool_,
    "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64, "complex64": np.complex64, "complex128": np.complex128,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
}
STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "CharStorage": "int8", "ByteStorage": "uint8", "ShortStorage": "int16", "IntStorage": "int32", "LongStorage": "int64",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
}
LARGEST = 64 << 20  # bytes of pickle; a ViT-g's is under a megabyte

# Top-level modules whose functions run programs, touch files or reach arbitrary attributes; no checkpoint needs them.
_HOSTILE = frozenset(
    "os posix nt ntpath posixpath subprocess sys shutil socket runpy importlib imp pickle _pickle dill cloudpickle joblib "
    "code codeop ctypes webbrowser pty platform timeit pdb bdb cProfile profile trace multiprocessing asyncio _thread signal "
    "operator _operator pkgutil zipimport pip setuptools distutils http urllib ftplib smtplib telnetlib requests ssl "
    "tempfile glob fileinput linecache marshal commands popen2 gc atexit site sysconfig venv ensurepip unittest doctest "
    "pydoc idlelib lib2to3 antigravity".split()
)
_BUILTINS = frozenset(
    "set frozenset list dict tuple int float complex bool str bytes bytearray slice range object unicode long xrange".split())
_RANDOM_STATES = re.compile(r"numpy\.random\.\w+\.__(\w+_ctor|pyx_unpickle_\w+)")  # how NumPy's generators are pickled
_LIBRARIES_HOSTILE = (
    "torch.hub", "torch.serialization", "torch.load", "torch.jit.load", "torch.utils.cpp_extension", "torch.utils.model_zoo",
    "torch.utils.collect_env", "torch.utils.bottleneck", "torch.package", "torch.fx", "torch._dynamo", "torch._inductor",
    "numpy.testing", "numpy.f2py", "numpy.distutils", "numpy.load", "numpy.lib",
)


class Refused(Exception):
    """The pickle names a callable that no checkpoint needs."""


# Tuples, because a pickle cannot change them after they are made.
class Token(NamedTuple):
    """A storage type or dtype that the pickle names."""

    dtype: np.dtype


class StorageRef(NamedTuple):
    """A storage record of the file: where its bytes are (`key`), their dtype and how many elements it should have. first: where a storage
    that is a part of another one begins in it, in elements (files from before PyTorch 1.6)."""

    dtype: np.dtype
    key: str
    numel: int
    first: int = 0


class TensorRef(NamedTuple):
    """A tensor as the pickle describes it; nothing is checked yet."""

    storage: Any
    offset: Any
    size: Any
    stride: Any
    dtype: np.dtype | None = None


class Inert:
    """Stands in for any object of an unknown class: keeps arguments and state, does nothing."""

    def __new__(cls, *args, **kwargs):
        self = object.__new__(cls)
        self.__dict__["state"] = {}
        return self

    def __init__(self, *args, **kwargs):
        self.__dict__["arguments"] = args

    def __call__(self, *args, **kwargs):
        return Inert()

    def __setstate__(self, state):
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict):
            state = state[0]
        self.__dict__["state"] = state if isinstance(state, dict) else {}

    def append(self, item):
        """Pickled subclasses of list fill themselves through this."""

    def extend(self, items):
        """See append."""

    def add(self, item):
        """Pickled subclasses of set fill themselves through this."""

    def __setitem__(self, key, value):
        self.__dict__["state"][key] = value


def _tensor(storage=None, offset=0, size=(), stride=(), *_rest):
    return TensorRef(storage, offset, size, stride)


def _tensor_v3(storage=None, offset=0, size=(), stride=(), _grad=False, _hooks=None, dtype=None, *_rest):
    return TensorRef(storage, offset, size, stride, dtype.dtype if isinstance(dtype, Token) else None)


def _first(value=None, *_rest):
    return value


def _from_type(_function=None, _type=None, arguments=(), state=None, *_rest):
    """torch's wrapper for tensors with Python attributes: the arguments are those of _rebuild_tensor_v2."""
    return _tensor(*arguments) if isinstance(arguments, tuple) and len(arguments) >= 4 else Inert()


def _attribute(owner=None, name=None, *_rest):
    """How bound methods are pickled (mmengine's message hub keeps some): nothing is looked up, and only of a stand-in is it asked for."""
    stand_in = isinstance(owner, Inert) or isinstance(owner, type) and issubclass(owner, Inert)
    if not stand_in or not isinstance(name, str) or name.startswith("__"):
        raise Refused("builtins.getattr")
    return Inert()


_MEANINGS = {
    "builtins.getattr": _attribute,
    "__builtin__.getattr": _attribute,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type": _from_type,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
}


class _Unpickler(pickle.Unpickler):
    """Gives every name a harmless meaning, or refuses it."""

    storages: dict[str, StorageRef]  # those that the pickle named so far

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return OrderedDict
        if full in _MEANINGS:
            meaning = _MEANINGS[full]
            return lambda *arguments: meaning(*arguments)  # a fresh one: the pickle may set attributes on what it is given
        if module in ("torch", "torch.storage", "torch.cuda"):
            if name in STORAGES or name == "TypedStorage":
                return Token(np.dtype(DTYPES[STORAGES.get(name, "float32")]))
            if name in DTYPES:
                return Token(np.dtype(DTYPES[name]))
            if name == "Size":
                return tuple
        check_name(module, name)
        return type("Inert", (Inert,), {})

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":  # before 1.6: a class beside its source text
            return pid[1]
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], Token)
                and isinstance(pid[2], str) and type(pid[4]) is int and pid[4] >= 0):
            raise pickle.UnpicklingError("a storage is described in an unknown way")
        self.storages.setdefault(pid[2], StorageRef(pid[1].dtype, pid[2], pid[4]))
        part = pid[5] if len(pid) > 5 else None  # before 1.6: (key, offset, elements) of a part of the storage
        if part is None:
            return StorageRef(pid[1].dtype, pid[2], pid[4])
        if not (isinstance(part, tuple) and len(part) == 3 and all(type(n) is int and n >= 0 for n in part[1:])
                and part[1] + part[2] <= pid[4]):
            raise pickle.UnpicklingError("a part of a storage is described in an unknown way")
        return StorageRef(pid[1].dtype, pid[2], part[2], part[1])


def check_name(module: str, name: str) -> None:
    """Raises Refused for names that would run something in an ordinary unpickler."""
    top, full = module.split(".")[0], f"{module}.{name}"
    builtin = module in ("builtins", "__builtin__") and name not in _BUILTINS
    if top in _HOSTILE or builtin or full.startswith(_LIBRARIES_HOSTILE) or "__" in name and not _RANDOM_STATES.fullmatch(full):
        raise Refused(full)


def unpickle(data: bytes, where: str) -> Any:
    """The object of the pickle, built of dictionaries, TensorRefs and Inert stand-ins; `where` names it in messages."""
    return unpickle_at(data, 0, where, {})[0]


def unpickle_at(data: bytes, start: int, where: str, storages: dict[str, StorageRef]) -> tuple[Any, int]:
    """(the object of the pickle that begins at `start`, where it ends). storages: takes the storages that the pickle names."""
    try:
        end = _scan(data, start)
        reader = _Unpickler(io.BytesIO(data[start:end]), encoding="utf-8", errors="replace")
        reader.storages = storages
        return reader.load(), end
    except Refused as refused:
        raise UserError(f"{where} is refused: its pickle would call {refused}, which no checkpoint needs. Nothing ran.") from None
    except (MemoryError, RecursionError):
        raise UserError(f"{where} is refused: its pickle asks for absurd amounts of memory.") from None
    except Exception as error:  # a damaged pickle may fail in any way; none of it is ours
        raise UserError(f"{where} has a damaged pickle ({type(error).__name__}: {error}).") from None


def _scan(data: bytes, start: int) -> int:
    """Looks at the opcodes before they run: named callables, and memo positions that would allocate gigabytes. Returns where they end."""
    stream, largest = io.BytesIO(data), 0
    stream.seek(start)
    for code, argument, _ in pickletools.genops(stream):
        if code.name in ("GLOBAL", "INST"):
            module, _, name = argument.partition(" ")
            if f"{module}.{name}" not in _MEANINGS:  # "_rebuild_tensor" and its like stay allowed
                check_name(module, name)
        elif code.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            largest = max(largest, argument)
        elif code.name in ("EXT1", "EXT2", "EXT4"):
            raise Refused("a copyreg extension")
    if largest > stream.tell() - start:
        raise MemoryError
    return stream.tell()
