"""The release script: one version everywhere, and nothing changed by what was refused or only tried."""

import datetime
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "release.py"
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n- a thing\n\n## [0.1.0] - 2026-01-01\n\n- the rest\n"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_versions_are_ordered_and_candidates_come_before_their_release(script: ModuleType) -> None:
    versions = ["0.2.0", "0.10.0", "0.2.0-rc.1", "1.0.0"]
    assert sorted(versions, key=script.ordered) == ["0.2.0-rc.1", "0.2.0", "0.10.0", "1.0.0"]


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "1.0.0-SNAPSHOT", ""])
def test_what_is_no_version_is_refused(script: ModuleType, version: str) -> None:
    with pytest.raises(script.RefusedError, match="is no version"):
        script.ordered(version)


def test_what_is_unreleased_gets_the_versions_heading(script: ModuleType) -> None:
    changed = script.with_heading(CHANGELOG, "0.2.0", datetime.date(2026, 2, 3))
    assert "## [Unreleased]\n\n## [0.2.0] - 2026-02-03\n\n### Added\n- a thing\n" in changed


def test_a_release_without_a_word_in_the_changelog_is_refused(script: ModuleType) -> None:
    with pytest.raises(script.RefusedError, match="nothing stands below"):
        script.with_heading(CHANGELOG.replace("### Added\n- a thing\n", ""), "0.2.0", datetime.date(2026, 2, 3))
    with pytest.raises(script.RefusedError, match="is there already"):
        script.with_heading(CHANGELOG, "0.1.0", datetime.date(2026, 2, 3))


def test_every_place_of_the_version_is_there_and_gets_the_new_one(script: ModuleType, tmp_path: Path) -> None:
    for name in (*script.PLACES, "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    old = script.current_version(tmp_path)
    script.set_version(tmp_path, old, "9.8.7", datetime.date(2026, 2, 3))
    assert script.current_version(tmp_path) == "9.8.7"
    for name in script.PLACES:
        assert "9.8.7" in (tmp_path / name).read_text()
        assert f"stowage:{old}" not in (tmp_path / name).read_text()


def test_candidates_are_written_as_python_writes_them(script: ModuleType) -> None:
    assert script.python_version("1.2.3-rc.4") == "1.2.3rc4"


def test_a_version_below_the_last_is_refused_and_nothing_is_built(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, str(SCRIPT), "0.0.1", "--dry-run", "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 2
    assert "0.0.1 is below" in answer.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.cluster
def test_a_dry_run_builds_wheel_and_chart_of_the_version_and_changes_nothing(
    tools: Path, script: ModuleType, tmp_path: Path
) -> None:
    before = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout
    command = [sys.executable, str(SCRIPT), "9.8.7-rc.1", "--dry-run", "--helm", str(tools / "helm")]
    for _ in range(2):  # what one dry run has left is in nobody's way
        answer = subprocess.run([*command, "--output", str(tmp_path / "out")], capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
    built = {file.name for file in (tmp_path / "out").iterdir()}
    assert built == {"stowage-9.8.7rc1-py3-none-any.whl", "stowage-9.8.7-rc.1.tgz", "SHA256SUMS"}
    assert "would build stowage:9.8.7-rc.1" in answer.stdout
    after = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout
    assert after == before


def test_files_of_somebody_else_are_named_and_stay(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.pdf").touch()
    assert script.main(["99.0.0", "--dry-run", "--output", str(tmp_path)]) == 2
    assert "thesis.pdf: remove them, or choose another --output" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.pdf"]


def test_without_helm_nothing_is_built(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "check", lambda root, version, dry_run: "0.1.0")  # whatever the checkout is like
    assert script.main(["99.0.0", "--dry-run", "--helm", "no-such-helm", "--output", str(tmp_path / "out")]) == 2
    assert "no-such-helm: no such program" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
