"""Read pickles of plain data from strangers: a small machine that knows a few opcodes and runs
nothing.

Python's own unpickler imports and calls what the file names, and a narrow `find_class` does not
make it safe: a memo index asks for 16 GB, and a dict's key of pairs of pairs takes twice as long to
hash for each level (133 bytes: 1.8 s, 300 bytes: years), which no look at the opcodes before can
tell. This one builds lists, tuples, dicts, numbers, text, bytes and uint8 arrays, as Python 2 and 3
write them in protocols 2 to 4, and refuses every other opcode and every other name. An opcode makes
one small thing besides the bytes that it quotes, and opcodes are counted: it takes no more memory
than a few times the file's size and 100 MB.
"""

import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# a batch of CIFAR-10 has about 100,000; empty dicts, a byte each, take 90 times the file's size
MAX_OPCODES = 1 << 20


class UnpickleError(ValueError):
    """The bytes are not a pickle of plain data; the message says at which byte and why."""


class _Name(NamedTuple):
    """A global that the file refers to by name; only a few names are accepted."""

    module: str
    name: str


class _Array:
    """An array that waits for its state: (version, shape, dtype, is_fortran, bytes)."""

    values: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _version, shape, dtype, is_fortran, content = state
        if dtype is not _BYTES or is_fortran not in (False, 0) or not isinstance(content, bytes):
            raise ValueError("an array of another kind than uint8 in C order")
        self.values = np.frombuffer(content, np.uint8).reshape(shape)


class _Bytes:
    """The type of an array, uint8; its byte order, which is all that its state tells, means
    nothing.
    """


_BYTES = _Bytes()
_LATIN1 = _Name("_codecs", "encode")  # how Python 3 writes bytes in protocol 2
_DTYPE = _Name("numpy", "dtype")
_ARRAYS = (
    _Name("numpy.core.multiarray", "_reconstruct"),
    _Name("numpy._core.multiarray", "_reconstruct"),
)
_KNOWN = (_LATIN1, _DTYPE, _Name("numpy", "ndarray"), *_ARRAYS)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = (
    *(
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINBYTES",
        "SHORT_BINBYTES",
    ),
    *("BINSTRING", "SHORT_BINSTRING"),
)


def unpickle(data: bytes) -> Any:
    """Build what a pickle describes; text of Python 2 becomes bytes. Raises UnpickleError."""
    machine = _Machine(len(data))
    position = 0
    try:
        for number, (opcode, argument, at) in enumerate(pickletools.genops(data)):
            position = at or 0
            if number >= MAX_OPCODES:
                raise UnpickleError(f"byte {position}: more than {MAX_OPCODES:,} opcodes")
            machine.step(opcode.name, argument)
        (result,) = machine.stack
    except UnpickleError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnpickleError(f"byte {position}: {reason or type(error).__name__}") from error
    return result.values if isinstance(result, _Array) else result


class _Machine:
    """The stack, the marks on it, and the memo of a pickle that is being read."""

    def __init__(self, num_bytes: int) -> None:
        self.stack: list[Any] = []
        # calls make no more bytes than the file has: a text made many times is refused
        self._to_make = num_bytes
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Do what one opcode says."""
        stack = self.stack
        if name in _LITERALS:
            # Text of Python 2 comes as str of latin-1.
            stack.append(argument.encode("latin-1") if name.endswith("BINSTRING") else argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self._fold(len(stack) - int(name[-1]))
        elif name == "TUPLE":
            self._fold(self._marks.pop())
        elif name in ("APPEND", "APPENDS"):
            self._extend(self._marks.pop() if name == "APPENDS" else len(stack) - 1)
        elif name in ("SETITEM", "SETITEMS"):
            self._update(self._marks.pop() if name == "SETITEMS" else len(stack) - 2)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._name(*(argument.split(" ") if name == "GLOBAL" else [stack.pop(-2), stack.pop()]))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(self._called(stack.pop(), arguments))
        elif name == "BUILD":
            self._build(stack.pop())
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise UnpickleError(f"opcode {name}, which no file of plain data needs")

    def _taken(self, start: int) -> list[Any]:
        if not 0 <= start <= len(self.stack):
            raise ValueError("takes more than there is")
        taken = [item.values if isinstance(item, _Array) else item for item in self.stack[start:]]
        del self.stack[start:]
        return taken

    def _fold(self, start: int) -> None:
        self.stack.append(tuple(self._taken(start)))

    def _extend(self, start: int) -> None:
        items = self._taken(start)
        if type(self.stack[-1]) is not list:
            raise ValueError("appends to what is no list")
        self.stack[-1].extend(items)

    def _update(self, start: int) -> None:
        items = self._taken(start)
        if type(self.stack[-1]) is not dict or not all(
            isinstance(key, str | bytes) for key in items[::2]
        ):
            raise ValueError("sets items of what is no dict, or by keys that are no text")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _name(self, module: Any, name: Any) -> None:
        # what is printed must not be a maze of lists
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name that is no text")
        if (module, name) not in _KNOWN:
            raise UnpickleError(
                f"names {module[:80]}.{name[:80]}, which no file of plain data needs"
            )
        self.stack.append(_Name(module, name))

    def _called(self, called: Any, arguments: Any) -> Any:
        if called == _LATIN1 and len(arguments) == 2 and arguments[1] == "latin1":
            made = arguments[0].encode("latin1")
            self._to_make -= len(made)
            if self._to_make >= 0:
                return made
        elif called == _DTYPE and arguments and arguments[0] in ("u1", b"u1"):
            return _BYTES
        elif called in _ARRAYS:
            return _Array()
        raise ValueError("a call of another kind than those of plain data")

    def _build(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, _Array):
            target.build(state)
        elif target is not _BYTES:
            raise ValueError("gives a state to what is no array")
