import os
import stat
from pathlib import Path

import pytest

from extender.whole_file import put_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    put_whole(tmp_path / "policy", b"old")
    inode = os.stat(tmp_path / "policy").st_ino
    put_whole(tmp_path / "policy", b"new")
    assert (tmp_path / "policy").read_bytes() == b"new"
    assert os.stat(tmp_path / "policy").st_ino != inode
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_a_file_that_was_put_and_its_name_are_written_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, list[str]]] = []

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), os.listdir(tmp_path)))

    monkeypatch.setattr(os, "fsync", fsync)
    put_whole(tmp_path / "policy", b"new")
    assert synced == [(False, [".policy.partial"]), (True, ["policy"])]
