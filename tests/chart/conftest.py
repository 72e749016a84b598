"""helm, as the cluster tests' tools have it."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def helm(tools: Path) -> Path:
    """The program."""
    return tools / "helm"
