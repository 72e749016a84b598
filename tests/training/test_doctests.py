from pathlib import Path

import pytest

import training
from tests.extender.test_doctests import assert_examples_are_true, modules_with_examples


@pytest.mark.parametrize("name", modules_with_examples(Path(training.__path__[0])))
def test_the_examples_in_the_documentation_are_true(name: str) -> None:
    assert_examples_are_true(name)
