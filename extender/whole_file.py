"""Files that are replaced whole: who reads one sees what was there before or all of it, also after a power failure."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def put_whole(path: Path, content: bytes) -> None:
    """Put content into the place of a file; its folder is made where there is none.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    with open_whole(path) as file:
        file.write(content)


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of the one at the path when the block has ended without an error.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)  # the new name outlasts a power failure only when this is written too
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
