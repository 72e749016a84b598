"""Makes the extender's own functions callable from compiled code, and keeps the compilation on disk.

numba notices a change in the file it compiles but not in the files that file calls, and a stale feature function would
be the very drift between training and serving that this project is built to exclude. The cache folder is therefore
named by the content of every file that takes part. Import this module before anything is compiled.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from filelock import FileLock
from numba.core import config
from numba.core.caching import IndexDataCacheFile, UserProvidedCacheLocator
from numba.extending import overload, register_jitable

from extender import elementwise, features, fragmentation, placement, valuation
from extender.policies import heuristics

COMPILED_MODULES = (placement, fragmentation, features, valuation, heuristics)

ENTRY = {
    # An episode is some sixty arrays. numba's reference counts for them would take most of the time, so functions do
    # without, and may not allocate arrays.
    "_nrt": False,
    # No divisor is ever 0: the functions see to that themselves, for numpy's sake too.
    "error_model": "numpy",
}
INNER_LOOP = ENTRY | {
    "forceinline": True,  # merged into their caller, functions need not be handed all those arrays
    "no_cpython_wrapper": True,  # which takes longer to compile than most of them
    "no_cfunc_wrapper": True,
}


def cache_directory() -> Path:
    """Folder of the compiled code: STOWAGE_CACHE or the user's cache folder, then a digest of the sources."""
    root = (
        os.environ.get("STOWAGE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stowage"
    )
    digest = hashlib.sha256(numba.__version__.encode())
    sources = [Path(str(module.__file__)) for module in (elementwise, *COMPILED_MODULES)]
    sources += sorted(Path(__file__).parent.glob("*.py"))
    for source in sources:
        digest.update(source.read_bytes())
    return Path(root) / "numba" / digest.hexdigest()[:16]


def _where_for_numbers(condition: Any, yes: Any, no: Any) -> Callable[..., Any]:
    def choose(condition: Any, yes: Any, no: Any) -> Any:
        return yes if condition else no

    return choose


def _add_at_for_numbers(columns: Any, position: Any, amount: Any) -> Callable[..., Any]:
    def add(columns: Any, position: Any, amount: Any) -> None:
        if amount != 0.0:  # as it is for most devices: an addition waits until the one before it is in memory
            columns[int(position)] += amount

    return add


def _make_callable_from_compiled_code() -> None:
    overload(elementwise.where)(_where_for_numbers)
    overload(elementwise.add_at)(_add_at_for_numbers)
    for module in COMPILED_MODULES:
        for function in module.COMPILABLE:
            register_jitable(**INNER_LOOP)(function)


def _save_one_at_a_time() -> None:
    """Let processes that share the cache folder not save into it at once.

    numba looks into an index for a name that is free and then writes the file of that name: two processes that compile
    a function for different arguments at the same time would find each other's code under theirs.
    """
    save = IndexDataCacheFile.save

    def save_alone(self: IndexDataCacheFile, key: Any, data: Any) -> None:
        Path(self._cache_path).mkdir(parents=True, exist_ok=True)
        with FileLock(Path(self._cache_path) / "saving.lock"):
            save(self, key, data)

    IndexDataCacheFile.save = save_alone


def _share_between_checkouts() -> None:
    """Name the folders in the cache by package, where numba names them by the checkout's path as well.

    What the cache folder's digest covers and numba's own digest of the compiled file agree on compiles to the same, so
    a fresh clone of a known state compiles nothing (minutes on two cores).
    """
    UserProvidedCacheLocator.get_suitable_cache_subpath = staticmethod(lambda source: Path(source).parent.name)


def inner(function: Callable[..., Any]) -> Any:
    """Compile a function of the inner loop, for compiled callers only (`from_python` makes one for tests).

    It may not allocate arrays, but may call functions that do (`outer`). One that returns arrays hands them out without
    counting the reference, so only functions of the inner loop and entries may call it.
    """
    dispatcher = numba.njit(cache=True, **INNER_LOOP)(function)

    def refuse(*arguments: Any, **named: Any) -> None:
        raise TypeError(f"{function.__name__} belongs to the inner loop and has no way in from Python: see from_python")

    def add_overload(compiled: Any) -> None:
        dispatcher.overloads[tuple(compiled.signature.args)] = compiled

    # Without these, numba would jump to the missing wrapper.
    dispatcher.add_overload, dispatcher._compile_for_args = add_overload, refuse
    return dispatcher


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls; whatever arrays it needs it is given."""
    return numba.njit(cache=True, **ENTRY)(function)


def outer(function: Callable[..., Any]) -> Any:
    """Compile a function that allocates; said in full, because numba hands the caller's settings down."""
    return numba.njit(cache=True, forceinline=False, _nrt=True)(function)


def from_python(function: Any) -> Any:
    """A function of the inner loop as one that Python can call, if it returns no arrays."""
    return numba.njit(**ENTRY)(function.py_func)


if not os.environ.get("NUMBA_CACHE_DIR"):
    config.CACHE_DIR = str(cache_directory())
    _share_between_checkouts()  # nothing but the digest tells checkouts whose other files differ apart
_make_callable_from_compiled_code()
_save_one_at_a_time()
