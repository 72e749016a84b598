"""One server for all tests of a process that begin programs of training."""

from collections.abc import Iterator

import pytest

from tests.training.warm_start import WarmStart


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmStart]:
    """Begins programs without their imports."""
    server = WarmStart(tmp_path_factory.mktemp("programs"))
    yield server
    server.stop()
