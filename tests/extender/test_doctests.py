import doctest
import importlib
from pathlib import Path

import pytest

import extender


def modules_with_examples(package: Path) -> list[str]:
    """Names of the modules of a package, at any depth, in whose text there is an example."""
    paths = sorted(path for path in package.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
    return [".".join(path.relative_to(package.parent).with_suffix("").parts) for path in paths]


def assert_examples_are_true(name: str) -> None:
    """All examples run, none is overlooked (as doctest would in a compiled function), and each gives what it says."""
    module = importlib.import_module(name)
    assert module.__file__ is not None
    written = Path(module.__file__).read_text(encoding="utf-8").count(">>> ")

    result = doctest.testmod(module)

    assert result.attempted == written
    assert result.failed == 0


@pytest.mark.parametrize("name", modules_with_examples(Path(extender.__path__[0])))
def test_the_examples_in_the_documentation_are_true(name: str) -> None:
    assert_examples_are_true(name)
