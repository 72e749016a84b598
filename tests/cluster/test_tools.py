"""The build of the control plane, as far as it can be tested without building anything."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.tools import build
from tests.cluster.tools.build import BuildError, Tool, build_all, tools_directory


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STOWAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "go_version", lambda kubernetes: "go1.26.0")


def pretend_to_build(tool: Tool, directory: Path) -> None:
    (directory / tool.name).write_text("binary")


def test_without_go_one_line_says_so(tmp_path: Path) -> None:
    command = [sys.executable, build.__file__]
    answer = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=120)

    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("cluster-tools: no Go toolchain")
    assert answer.stderr.count("\n") == 1


def test_another_go_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first = tools_directory()
    monkeypatch.setattr(build, "go_version", lambda kubernetes: "go1.27.0")
    assert tools_directory() != first


def test_a_changed_recipe_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = tools_directory()
    for name in ("go.mod", "go.sum"):
        for source in build.RECIPES.rglob(name):
            copy = tmp_path / "recipes" / source.relative_to(build.RECIPES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    monkeypatch.setattr(build, "RECIPES", tmp_path / "recipes")
    assert tools_directory() == first

    with (tmp_path / "recipes" / "kwok" / "go.sum").open("a") as recipe:
        recipe.write("\n")

    assert tools_directory() != first


def test_what_is_built_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build", pretend_to_build)
    directory = build_all("1.36")
    assert {path.name for path in directory.iterdir()} == {"kube-apiserver", "kube-scheduler", "etcd", "kwok", "helm"}

    monkeypatch.setattr(build, "build", lambda *_: pytest.fail("built again"))

    assert build_all("1.36") == directory


def test_a_build_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_at_kwok(tool: Tool, directory: Path) -> None:
        if tool.name == "kwok":
            raise BuildError("no network")
        pretend_to_build(tool, directory)

    monkeypatch.setattr(build, "build", fail_at_kwok)

    with pytest.raises(BuildError, match="no network"):
        build_all("1.36")

    assert list(tools_directory().parent.iterdir()) == []


def test_a_second_builder_accepts_what_the_first_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def finish_meanwhile(tool: Tool, directory: Path) -> None:
        pretend_to_build(tool, directory)
        tools_directory().mkdir(parents=True, exist_ok=True)
        (tools_directory() / tool.name).write_text("binary of the first")

    monkeypatch.setattr(build, "build", finish_meanwhile)

    assert (build_all("1.36") / "helm").read_text() == "binary of the first"
