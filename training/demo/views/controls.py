"""The settings that pages share: which policy, which workload, how much load."""

import os
import re
import tempfile
from pathlib import Path

import streamlit as st

from extender.policies.base import Policy, PolicyError
from training.demo.policies import choices, edition, loaded, receive
from training.demo.views.variables import RUNS_VARIABLE
from training.workloads.base import Population
from training.workloads.selection import WorkloadArguments, load_population
from training.workloads.tables import TraceError

WORKLOADS = {
    "auto": "openb, or its figures",
    "generated": "generated, several GPU models",
}
PROCESSES = {"poisson": "evenly", "bursty": "in bursts", "diurnal": "by the hour of the day"}
SMALLEST_LOAD, LARGEST_LOAD, USUAL_LOAD = 0.3, 1.3, 0.9
UPLOADS = "uploads"


def runs_folder() -> Path:
    """The folder of the runs, as `python -m training.demo --runs` was told."""
    return Path(os.environ.get(RUNS_VARIABLE, "runs"))


def all_choices() -> dict[str, str | Path]:
    """What can be chosen, and what was uploaded in this session."""
    return st.session_state.get(UPLOADS, {}) | choices(runs_folder())


def upload() -> None:
    """Take a policy file, and say what the extender says of it."""
    given = st.file_uploader("Your own policy, ONNX", type=["onnx"], key="upload")
    if given is None:
        return
    if "folder" not in st.session_state:
        st.session_state["folder"] = tempfile.TemporaryDirectory(prefix="stowage-demo-")
    try:
        file = receive(given.name, given.getvalue(), Path(st.session_state["folder"].name))
    except PolicyError as error:
        st.error(f"The extender refuses {literal(given.name)}: {literal(str(error))}", icon=":material/block:")
        return
    st.session_state.setdefault(UPLOADS, {})[f"upload {given.name}"] = file
    st.success(f"{literal(given.name)} is a policy that the extender serves.", icon=":material/check:")


def literal(text: str) -> str:
    """Markdown that shows a text as it is, whatever is in it: escaped characters would still become links and icons.

    Example:
        >>> literal("a *b* [c](d)")
        '` a *b* [c](d) `'
    """
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {' '.join(text.split())} {fence}"


def workload() -> tuple[WorkloadArguments, float]:
    """Which workload, and the offered load."""
    load = st.slider(
        "Load of the scarcest resource",
        SMALLEST_LOAD,
        LARGEST_LOAD,
        USUAL_LOAD,
        0.05,
        key="load",
        help="1.0: pods ask for as much as the cluster has, on average over time",
    )
    source = st.selectbox("Workload", list(WORKLOADS), format_func=WORKLOADS.__getitem__, key="source")
    process = st.selectbox("Pods arrive", list(PROCESSES), format_func=PROCESSES.__getitem__, key="process")
    return WorkloadArguments(source=source, process=process), float(load)


@st.cache_resource(show_spinner="Reading the workload")
def population(source: str, resources: int) -> Population:
    """What episodes are drawn from.

    Raises:
        TraceError: it cannot be read.
    """
    return load_population(WorkloadArguments(source=source), resources)


def policy_of(choice: str | Path) -> str | Policy:
    """A chosen policy, loaded once, and again when its file was replaced.

    Raises:
        PolicyError: the file is gone, or holds no policy.
    """
    return _loaded(choice, edition(choice))


@st.cache_resource(show_spinner=False)
def _loaded(choice: str | Path, edition: tuple[int, int] | None) -> str | Policy:
    return loaded(choice)


REFUSED = (PolicyError, TraceError, ValueError)
