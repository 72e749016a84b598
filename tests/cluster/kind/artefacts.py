"""What is costly to make lies in a cache outside the tree, under the digest of everything that it is made from."""

import ast
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.cluster.tools.build import cache_directory


def digest(parts: Iterable[bytes | str | Path]) -> str:
    """One digest of texts, and of files and folders by their contents and relative names.

    A module of these tests counts by its code: another comment or line break makes nothing anew.
    """
    total = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            total.update(hashlib.sha256(piece).digest())
    return total.hexdigest()[:16]


def _pieces(part: bytes | str | Path) -> Iterable[bytes]:
    if isinstance(part, bytes):
        yield part
    elif isinstance(part, str):
        yield part.encode()
    elif part.is_dir():
        for path in sorted(part.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(part)).encode()
                yield path.read_bytes()
    elif part.suffix == ".py":
        yield ast.dump(ast.parse(part.read_bytes())).encode()
    else:
        yield part.read_bytes()


def made(name: str, parts: Iterable[bytes | str | Path], make: Callable[[Path], None]) -> Path:
    """The file of that name, made where it is missing. It appears under its name once complete.

    Args:
        name: of the file, such as "node.tar".
        parts: everything that it is made from.
        make: writes it to the path that it is given; the path's folder is its own and is deleted afterwards.
    """
    folder = cache_directory() / "kind" / name.partition(".")[0]
    target = folder / digest(parts) / name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as unfinished:
        make(Path(unfinished) / name)
        os.replace(Path(unfinished) / name, target)
    _forget_others(folder, target.parent)
    return target


def _forget_others(folder: Path, kept: Path) -> None:
    """Earlier versions are hundreds of megabytes each; only the two that were made last stay."""
    others = sorted((path for path in folder.iterdir() if path != kept and not path.name.startswith(".")), key=_age)
    for outdated in others[:-1]:
        shutil.rmtree(outdated)


def _age(path: Path) -> float:
    return path.stat().st_mtime
