"""Makes the extender's own functions callable from compiled code, and keeps the compilation on disk.

numba notices a change in the file it compiles but not in the files that file calls, and a stale feature function would
be the very drift between training and serving that this project is built to exclude. The cache folder is therefore
named by the content of every file that takes part. Import this module before anything is compiled.
"""

import hashlib
import os
from pathlib import Path

import numba
from numba.core import config
from numba.extending import register_jitable

from extender import features, placement
from extender.policies import heuristics

COMPILED_MODULES = (placement, features, heuristics)


def cache_directory() -> Path:
    """Folder of the compiled code: STOWAGE_CACHE or the user's cache folder, then a digest of the sources."""
    root = (
        os.environ.get("STOWAGE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stowage"
    )
    digest = hashlib.sha256(numba.__version__.encode())
    sources = [Path(str(module.__file__)) for module in COMPILED_MODULES]
    sources += sorted(Path(__file__).parent.glob("*.py"))
    for source in sources:
        digest.update(source.read_bytes())
    return Path(root) / "numba" / digest.hexdigest()[:16]


def _make_callable_from_compiled_code() -> None:
    for module in COMPILED_MODULES:
        for function in module.COMPILABLE:
            register_jitable(function)


if not os.environ.get("NUMBA_CACHE_DIR"):
    config.CACHE_DIR = str(cache_directory())
_make_callable_from_compiled_code()
