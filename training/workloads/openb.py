"""The openb trace: Alibaba's production GPU cluster, read from a folder of CSV files.

The files are public (cluster-trace-gpu-v2023, see the README) and never part of this project. `find_traces` says where
they are looked for; `read_population` turns a node list and a pod list into a `Population`.
"""

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from training.workloads.assembly import NodePrices, PodColumns, assemble, columns_of_nodes, request_columns
from training.workloads.base import Population

MIB = 1024 * 1024
NODE_FILE = "openb_node_list_gpu_node.csv"
TRACES_VARIABLE = "STOWAGE_TRACES"
PRIORITIES = {"BE": 0}  # best effort gives way to every other quality of service
ORDINARY_PRIORITY = 1000

Parsed = TypeVar("Parsed")


class TraceError(ValueError):
    """A trace cannot be read; the message names file, line, column and what was expected."""


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
        mix: the pod list's suffix; the lists without times (multigpu…) cannot be replayed in time.
        prices: of the nodes.

    Raises:
        TraceError: a file is missing or a row cannot be read.
    """
    capacities, node_models = [], []
    for *capacity, model in _rows(
        folder / NODE_FILE,
        lambda cell: (cell("cpu_milli"), cell("memory_mib"), cell("gpu"), cell("model", str)),
    ):
        capacities.append(tuple(capacity))
        node_models.append(model)
    requests, times, priorities, admitted_models = [], [], [], []
    for cpu, memory, count, milli, created, deleted, priority, models in _rows(
        folder / f"openb_pod_list_{mix}.csv",
        lambda cell: (
            cell("cpu_milli"),
            cell("memory_mib"),
            cell("num_gpu"),
            cell("gpu_milli"),
            cell("creation_time"),
            cell("deletion_time"),
            cell("qos", lambda qos: PRIORITIES.get(qos, ORDINARY_PRIORITY)),
            cell("gpu_spec", str),
        ),
    ):
        requests.append((cpu, memory, count, milli if count else 0))
        times.append((created, deleted))
        priorities.append(priority)
        admitted_models.append(models)
    created, deleted = np.asarray(times, dtype=np.int64).T
    if np.any(deleted < created):
        line = int(np.argmax(deleted < created)) + 2
        raise TraceError(f"{folder}/openb_pod_list_{mix}.csv:{line}: column 'deletion_time': before the creation_time")
    specs = sorted(set(admitted_models))
    return assemble(
        f"openb ({mix}), {len(capacities)} nodes and {len(requests)} pods read from the trace",
        columns_of_nodes(capacities, MIB, node_models),
        PodColumns(
            *request_columns(requests, MIB),
            duration=(deleted - created).astype(np.float64),
            priority=np.asarray(priorities, dtype=np.int64),
            arrival=created.astype(np.float64),
            constraint=np.array([specs.index(spec) for spec in admitted_models]),
            admitted=np.array([[not spec or model in spec.split("|") for model in node_models] for spec in specs]),
        ),
        prices=prices,
    )


def _rows(path: Path, parse: Callable[[Callable[..., Any]], Parsed]) -> Iterator[Parsed]:
    if not path.is_file():
        present = sorted(file.name for file in path.parent.glob("*.csv"))
        raise TraceError(f"{path}: no such file; the folder holds {', '.join(present) or 'no CSV file'}")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        line = 1
        for line, row in enumerate(reader, start=2):

            def cell(column: str, convert: Callable[[str], Any] = int, line: int = line, row: dict = row) -> Any:
                text = row.get(column)
                if text is None:
                    raise TraceError(
                        f"{path}:{line}: no value for column {column!r}; the header names "
                        f"{', '.join(reader.fieldnames or ())}"
                    )
                try:
                    value = convert(text)
                except ValueError:
                    raise TraceError(
                        f"{path}:{line}: column {column!r}: {text!r} where a whole number was expected"
                    ) from None
                if value != text and value < 0:
                    raise TraceError(f"{path}:{line}: column {column!r}: {value} where 0 or more was expected")
                return value

            yield parse(cell)
        if line == 1:
            raise TraceError(f"{path}: there are no rows below the header")


__all__ = ["TRACES_VARIABLE", "TraceError", "find_traces", "read_population"]
