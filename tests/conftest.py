"""What all tests share: how a test that lacks something outside the checkout ends, and Hypothesis's settings."""

import os
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

IN_CI = "true"

# No deadline: the first example may load compiled code. Under CI the same examples every time.
settings.register_profile("stowage", deadline=None, max_examples=60, derandomize=os.environ.get("CI") == IN_CI)
settings.load_profile("stowage")


def unavailable(reason: str) -> NoReturn:
    """End a test that lacks something: skipped with the reason, but failed under CI=true, where all has to be there."""
    if os.environ.get("CI") == IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def openb_traces() -> Path:
    """The folder of the openb traces."""
    from training.workloads.openb import TRACES_VARIABLE, find_traces

    folder = find_traces()
    if folder is None:
        unavailable(f"no openb traces: set {TRACES_VARIABLE} or put them at ../shared/traces (see the README)")
    return folder


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder with the binaries of a control plane, of the version of Kubernetes that is asked for, and helm."""
    from tests.cluster.tools.build import DEFAULT_KUBERNETES, ToolchainError, tools_directory

    try:
        directory = tools_directory(os.environ.get("STOWAGE_KUBERNETES", DEFAULT_KUBERNETES))
    except ToolchainError as error:
        unavailable(str(error))
    if not directory.is_dir():
        unavailable("the control plane is not built; run `make cluster-tools`")
    return directory
