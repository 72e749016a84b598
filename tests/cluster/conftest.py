"""One cluster for all cluster tests, an extender of its own for each."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.cluster.extender_process import ExtenderProcess
from tests.cluster.testbed import ROOT, Testbed, run_testbed
from tests.conftest import unavailable

NODES = {"general": 100, "gpu-shared": 70, "gpu-whole": 30}
LOG_TAIL_LINES = 15
LOG_LINE_CHARACTERS = 400


@pytest.fixture(scope="session")
def policy() -> Path:
    """The policy that training exported."""
    named = os.environ.get("STOWAGE_E2E_POLICY")
    choices = [Path(named)] if named else [ROOT / "runs" / run / "policy.onnx" for run in ("quickstart", "e2e")]
    for path in choices:
        if path.is_file():
            return path
    unavailable(f"there is no policy at {' or '.join(map(str, choices))}; run `make e2e`, which trains one")


@pytest.fixture(scope="session")
def testbed(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A control plane, 200 nodes of three shapes, and kube-scheduler, which expects the extender at a fixed port."""
    with run_testbed(tools, tmp_path_factory.mktemp("cluster"), NODES) as testbed:
        yield testbed


@pytest.fixture
def extender(testbed: Testbed, policy: Path, tmp_path: Path) -> Iterator[ExtenderProcess]:
    """The extender, ready, with the rights of its own service account."""
    process = ExtenderProcess(tmp_path, testbed.extender_kubeconfig, policy, testbed.extender_port)
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every program's log with a test that fails."""
    report = yield
    if report.failed:
        fixtures = getattr(item, "funcargs", {})
        directories = [fixtures["testbed"].directory] if "testbed" in fixtures else []
        directories += [fixtures["tmp_path"]] if "tmp_path" in fixtures else []
        for log in [log for directory in directories for log in sorted(directory.glob("*.log"))]:
            lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            tail = "\n".join(line[:LOG_LINE_CHARACTERS] for line in lines)
            report.sections.append((f"end of {log}", tail))
    return report
