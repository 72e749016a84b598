import doctest
import importlib

import pytest

EXAMPLES = ["extender.quantity", "extender.placement", "extender.decision", "extender.cluster.assume"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_in_the_documentation_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))

    assert result.attempted > 0
    assert result.failed == 0
