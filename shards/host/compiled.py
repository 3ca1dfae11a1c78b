"""Functions compiled by numba, with machine code that is kept from one start to the next.

Numba's own cache knows the file of a function and not the files of what it calls: after an update
it may run yesterday's code. It raises where no folder can be written. Here the name of a file of
machine code holds a digest of every source that went into it, of the versions, the CPU and the
argument types: no name is ever used for other code.
"""

import contextlib
import hashlib
import multiprocessing
import os
import pickle
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import _Cache as Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

MAX_KEPT = 16  # files of one function: argument types, CPUs, versions; the oldest are removed
DIGEST_BYTES = 16
IMPORTS = re.compile(r"^(?:from|import) +([\w.]+)", re.MULTILINE)
SETTINGS = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")  # variables of numba that change no code
PACKAGE_FOLDER = Path(__file__).parent / "__pycache__" / "compiled"


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function at its first call, with options of numba.njit; keep its machine code."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        if dispatcher is not function:  # NUMBA_DISABLE_JIT gives back the function itself
            dispatcher._cache = _Kept(function, options.get("_nrt", True))
        return dispatcher

    return decorate


class _Kept(Cache):
    """The machine code of one function on disk, a file for each list of argument types.

    Processes that compile at once write the same file, each in one rename. What cannot be read is
    compiled again.
    """

    def __init__(self, function: Callable[..., Any], allocates: bool) -> None:
        self._allocates = allocates
        self._name = f"{function.__module__}.{function.__qualname__}"
        # Now, not at the first call: an update in between would give its name to this code.
        self._sources = _sources(function.__module__)

    @property
    def cache_path(self) -> str:
        return str(_places()[-1] or "")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Give the code of these argument types, or None."""
        # 0.3 s: numba's runtime and registries, and the SciPy that these look for. Code without
        # reference counts calls nothing of them; whatever is compiled later loads them then.
        if self._allocates:
            target_context.refresh()
        name = self._file_name(sig, target_context.codegen())
        for folder in filter(None, _places()):
            with contextlib.suppress(OSError):
                data = (folder / name).read_bytes()
                content = data[DIGEST_BYTES:]
                if _digest(content) == data[:DIGEST_BYTES]:  # not cut short by a power failure
                    return CompileResult._rebuild(target_context, *pickle.loads(content))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the code of these argument types where a folder can be found for it."""
        folder = _places()[-1]
        if folder is None or data.library.has_dynamic_globals:
            return
        content = dumps(data._reduce())
        path = folder / self._file_name(sig, data.codegen)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            temporary.write_bytes(_digest(content) + content)
            os.replace(temporary, path)
            _remove_oldest(folder, self._name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            _say_not_kept(f"{folder}: {error.strerror}")

    def enable(self) -> None: ...

    def disable(self) -> None: ...

    def flush(self) -> None: ...

    def _file_name(self, sig: Any, codegen: Any) -> str:
        key = repr((self._sources, _versions(), sig, codegen.magic_tuple()))
        return f"{self._name}-{_digest(key.encode()).hex()}.code"


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


@cache
def _versions() -> str:
    """Spell what else changes the code: versions, numba's variables such as NUMBA_BOUNDSCHECK."""
    given = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    settings = [item for item in given if item[0] not in SETTINGS]
    return repr((numba.__version__, llvmlite.__version__, np.__version__, sys.version, settings))


@cache
def _sources(module: str) -> str:
    """Digest the source of a module and of all that it imports from its package and this one."""
    tops = {module.partition(".")[0], __name__.partition(".")[0]}
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen and name.partition(".")[0] in tops:
            seen[name], imports = _source(name)
            waiting += imports
    return _digest(repr(sorted(seen.items())).encode()).hex()


@cache
def _source(module: str) -> tuple[str, tuple[str, ...]]:
    """Digest one module's source and list the modules that it names: all are loaded by now.

    Of a package, all modules that are loaded: `from package import module` names no more than it.
    """
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if file is None:  # a name inside a module, or one that is only imported for its types
        return "", ()
    data = Path(file).read_bytes()
    below = [name for name in sys.modules if name.startswith(f"{module}.")]
    imports = IMPORTS.findall(data.decode(errors="replace"))
    return _digest(data).hex(), (*imports, *(below if hasattr(loaded, "__path__") else ()))


# -- where the code is kept -----------------------------------------------------------------------


@cache
def _places() -> tuple[Path | None, ...]:
    """List the folders to read from; the last one is written to, or None where none can be."""
    readable: list[Path] = []
    for folder in _candidates():
        if _can_be_written(folder):
            return (*readable, folder)
        if folder == PACKAGE_FOLDER:  # an administrator may have filled it
            readable.append(folder)
    _say_not_kept("no folder for it can be written")
    return (*readable, None)


def _candidates() -> Iterator[Path]:
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(given).absolute() / "tarmac"
    yield PACKAGE_FOLDER
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        if caches.is_absolute() and _is_private(_made(caches / "tarmac" / "compiled")):
            yield caches / "tarmac" / "compiled"
    except (OSError, RuntimeError):  # a user without a home
        pass
    try:
        user = os.getuid() if hasattr(os, "getuid") else "here"
        folder = Path(tempfile.gettempdir()).resolve() / f"tarmac_compiled_{user}"
        if _is_private(_made(folder)):
            yield folder
    except OSError:
        return


def _made(folder: Path) -> Path:
    """Make a folder that nobody else can write to; one that is there stays as it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is_private(folder: Path) -> bool:
    """Tell whether nobody else can put files here: code of a stranger is code that runs."""
    if os.name != "posix":
        return True
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        return False
    return all(_is_held_firm(os.stat(parent)) for parent in folder.resolve().parents)


def _is_held_firm(status: os.stat_result) -> bool:
    """Tell whether strangers can neither own a folder nor exchange what is in it."""
    open_to_all = bool(status.st_mode & stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    return status.st_uid in (0, os.geteuid()) and not open_to_all


def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _remove_oldest(folder: Path, name: str) -> None:
    """Keep the MAX_KEPT newest files of a function: earlier releases leave theirs."""
    files = sorted(folder.glob(f"{name}-*.code"), key=_kept_since)
    for file in files[:-MAX_KEPT]:
        file.unlink(missing_ok=True)


def _kept_since(file: Path) -> float:
    """Tell when a file was made; one that another process has removed meanwhile is the oldest."""
    try:
        return os.path.getmtime(file)
    except FileNotFoundError:
        return 0.0


@cache
def _say_not_kept(why: str) -> None:
    """Say once, and from one process of many, that each start compiles again."""
    first = os.environ.get("LOCAL_RANK", "0") == "0" and multiprocessing.parent_process() is None
    if first and sys.stderr is not None:
        print(
            f"compiled code cannot be kept ({why}): every start compiles it again, which takes "
            "seconds; set NUMBA_CACHE_DIR to a folder that can be written",
            file=sys.stderr,
        )
