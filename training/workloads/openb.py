"""The openb trace: Alibaba's production GPU cluster, read from a folder of CSV files.

The files are public (cluster-trace-gpu-v2023, see the README) and never part of this project. `find_traces` says where
they are looked for; `read_population` turns a node list and a pod list into a `Population`.
"""

import os
from pathlib import Path

import numpy as np

from extender.cluster.requests import DEVICES_AT_MOST
from extender.placement import WHOLE_DEVICE_MILLI
from training.workloads.arrivals import Rhythm
from training.workloads.assembly import NodePrices, PodColumns, assemble, columns_of_nodes, request_columns
from training.workloads.base import Population
from training.workloads.tables import LARGEST, Row, TraceError, read_table

MIB = 1024 * 1024
GPUS_ASKED_AT_MOST = 1_000_000
MIB_AT_MOST = LARGEST // MIB
NODE_FILE = "openb_node_list_gpu_node.csv"
NODE_COLUMNS = ("cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
TIMES = ("creation_time", "deletion_time")
EVEN_RHYTHM = Rhythm(np.ones(24), 1.0)
TRACES_VARIABLE = "STOWAGE_TRACES"
PRIORITIES = {"BE": 0}  # best effort gives way to every other quality of service
ORDINARY_PRIORITY = 1000


def find_traces(setting: str | None = None) -> Path | None:
    """Find the folder with the openb files: the setting, then STOWAGE_TRACES, then `../shared/traces` of the checkout.

    Returns:
        the folder that holds the node list, or None where no trace is found.

    Raises:
        TraceError: a folder was named, by the setting or the variable, that does not hold the files.
    """
    named = setting or os.environ.get(TRACES_VARIABLE)
    checkout = Path(__file__).resolve().parents[2]
    places = [Path(named)] if named else [checkout.parent / "shared" / "traces"]
    for place in places:
        for folder in (place, place / "openb"):
            if (folder / NODE_FILE).is_file():
                return folder
    if named:
        raise TraceError(f"{named}: expected a folder with {NODE_FILE} in it or in its subfolder openb")
    return None


def read_population(folder: Path, mix: str = "default", prices: NodePrices | None = None) -> Population:
    """Read the nodes and one mix of pods.

    Args:
        folder: holds `openb_node_list_gpu_node.csv` and `openb_pod_list_<mix>.csv`.
        mix: the pod list's suffix; pods of the lists without times (multigpu…) have no end and no arrival.
        prices: of the nodes.

    Raises:
        TraceError: a file is missing or a row cannot be read.
    """
    _, node_rows = read_table(folder / NODE_FILE, NODE_COLUMNS)
    nodes = [_capacity(row) for row in node_rows]
    node_models = [row.text("model") for row in node_rows]

    path = folder / f"openb_pod_list_{mix}.csv"
    header, pod_rows = read_table(path, POD_COLUMNS)
    requests = [_request(row) for row in pod_rows]
    timed = any(column in header for column in TIMES)
    if timed:
        if not all(column in header for column in TIMES):
            read_table(path, TIMES)  # refuses it: one of the two is of no use
        created, deleted = np.array([_times(row) for row in pod_rows], dtype=np.float64).T.copy()
    admitted_models = [row.text("gpu_spec") for row in pod_rows]
    specs = sorted(set(admitted_models))
    return assemble(
        f"openb ({mix}), {len(nodes)} nodes and {len(requests)} pods read from the trace",
        columns_of_nodes(nodes, MIB, node_models),
        PodColumns(
            *request_columns(requests, MIB),
            duration=deleted - created if timed else np.full(len(requests), np.inf),
            priority=np.array([PRIORITIES.get(row.text("qos"), ORDINARY_PRIORITY) for row in pod_rows]),
            arrival=created if timed else None,
            constraint=np.array([specs.index(spec) for spec in admitted_models]),
            admitted=np.array([[not spec or model in spec.split("|") for model in node_models] for spec in specs]),
        ),
        prices=prices,
        rhythm=None if timed else EVEN_RHYTHM,
    )


def _capacity(row: Row) -> tuple[int, int, int]:
    gpus = row.whole("gpu", at_most=DEVICES_AT_MOST)
    return row.whole("cpu_milli"), row.whole("memory_mib", at_most=MIB_AT_MOST), gpus


def _request(row: Row) -> tuple[int, int, int, int]:
    count = row.whole("num_gpu", at_most=GPUS_ASKED_AT_MOST)
    milli = row.whole("gpu_milli", at_most=WHOLE_DEVICE_MILLI)
    memory = row.whole("memory_mib", at_most=MIB_AT_MOST)
    return row.whole("cpu_milli"), memory, count, milli if count else 0


def _times(row: Row) -> tuple[int, int]:
    created, deleted = row.whole("creation_time"), row.whole("deletion_time")
    if deleted < created:
        row.refuse("deletion_time", f"a time after the creation_time, {created},")
    return created, deleted


__all__ = ["TRACES_VARIABLE", "TraceError", "find_traces", "read_population"]
