"""What lies in the cache: made once, by content, and whole."""

from pathlib import Path

import pytest

from tests.cluster.kind.artefacts import digest, made


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("STOWAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kind"


def test_what_is_made_is_not_made_again() -> None:
    first = made("thing.tar", ["a"], lambda path: path.write_text("made") and None)
    assert made("thing.tar", ["a"], lambda _: pytest.fail("made again")) == first
    assert first.read_text() == "made"


def test_other_parts_make_another(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("1")
    before = digest(["a", folder])
    (folder / "file").write_text("2")
    assert digest(["a", folder]) != before
    (folder / "file").rename(folder / "renamed")
    (folder / "renamed").write_text("1")
    assert digest(["a", folder]) != before


def test_a_comment_makes_nothing_anew(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("x = 1\n")
    before = digest([module])
    module.write_text("# why\nx  =  1\n")
    assert digest([module]) == before
    module.write_text("x = 2\n")
    assert digest([module]) != before


def test_what_fails_leaves_nothing(cache: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        made("thing.tar", ["a"], fail)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_old_versions_are_forgotten(cache: Path) -> None:
    for version in "abcd":
        made("thing.tar", [version], lambda path: path.write_text("made") and None)
    assert len(list(cache.rglob("thing.tar"))) == 2
