"""Anyone's own trace as two CSV files, `nodes.csv` and `pods.csv`; docs/workloads.md describes the columns.

Amounts may be written as Kubernetes writes them, times as seconds or as dates. A file that means something else than
it says is worse than one that is refused: unknown columns, names that occur twice and values out of range are errors
that name file, line and column. Pods that fit on no node are none, since real traces have them; they are counted in
the population's name and never drawn.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from extender import quantity
from extender.admission import EFFECTS, Constraint, Place, Requirement, Taint, Toleration
from extender.cluster.requests import DEVICES_AT_MOST
from extender.placement import CPU, GPU, MEMORY, WHOLE_DEVICE_MILLI
from training.workloads.arrivals import DAY_SECONDS, FloatArray
from training.workloads.assembly import PODS_PER_NODE, NodeColumns, NodePrices, PodColumns, assemble, count_unplaceable
from training.workloads.base import BASE_RESOURCES, RESOURCES_AT_MOST, Population
from training.workloads.constraints import admitted_nodes
from training.workloads.tables import LARGEST, Row, TraceError, read_table

NODE_FILE, POD_FILE = "nodes.csv", "pods.csv"
NODE_COLUMNS = ("name", "cpu", "memory")
OPTIONAL_NODE_COLUMNS = ("gpus", "gpu_model", "pods", "price", "labels", "taints")
POD_COLUMNS = ("name", "arrival", "duration", "cpu", "memory")
OPTIONAL_POD_COLUMNS = (
    *("gpus", "gpu_milli", "gpu_models", "priority", "expected_seconds"),
    *("node_selector", "tolerations"),
)
GPUS_ASKED_AT_MOST = 1_000_000
LOWEST_PRIORITY, HIGHEST_PRIORITY = -(2**31), 2**31 - 1  # v1.PodSpec.priority is an int32
PAIRS = "key=value pairs separated by ;"


def read_population(folder: Path, prices: NodePrices | None = None) -> Population:
    """Read a trace in the project's own CSV form.

    Args:
        folder: holds `nodes.csv` and `pods.csv`.
        prices: of nodes without a price.

    Raises:
        TraceError: a file is missing or something in it is not as documented.
    """
    nodes, places, resources = read_nodes(folder / NODE_FILE)
    pods = read_pods(folder / POD_FILE, places, resources)
    population = assemble(
        f"{folder}, {len(places)} nodes and {len(pods.duration)} pods read from {NODE_FILE} and {POD_FILE}",
        nodes,
        pods,
        resources=resources,
        prices=prices,
    )
    return count_unplaceable(population, folder / POD_FILE)


def read_nodes(path: Path) -> tuple[NodeColumns, list[Place], tuple[str, ...]]:
    """Read the nodes.

    Returns:
        the nodes, what constraints look at of each, and the names of the resources.

    Raises:
        TraceError: something in the file is not as documented.
    """
    header, rows = read_table(path, NODE_COLUMNS, OPTIONAL_NODE_COLUMNS, is_further_resource)
    further = [column for column in header if is_further_resource(column)]
    resources = (*BASE_RESOURCES, *further)
    if len(resources) > RESOURCES_AT_MOST:
        raise TraceError(
            f"{path}:1: column {further[RESOURCES_AT_MOST - len(BASE_RESOURCES)]!r}: at most {RESOURCES_AT_MOST} "
            f"resources are supported, {len(BASE_RESOURCES)} of them cpu, memory and gpu"
        )
    refuse_repeated_names(path, rows)
    allocatable = np.zeros((len(rows), len(resources)), np.int64)
    devices = np.zeros(len(rows), np.int64)
    places = []
    for index, row in enumerate(rows):
        allocatable[index, CPU] = row.amount("cpu", quantity.to_milli)
        allocatable[index, MEMORY] = row.amount("memory")
        devices[index] = row.whole("gpus", at_most=DEVICES_AT_MOST, default=0)
        for position, column in enumerate(further, start=len(BASE_RESOURCES)):
            allocatable[index, position] = row.amount(column, default=0)
        places.append(Place(row.text("name"), row.text("gpu_model"), dict(pairs(row, "labels")), taints(row)))
    allocatable[:, GPU] = devices * WHOLE_DEVICE_MILLI
    return (
        NodeColumns(
            allocatable,
            devices,
            [place.model for place in places],
            np.array([row.whole("pods", default=PODS_PER_NODE) for row in rows]),
            np.array([row.number("price", "a price, 0 or more", default=float("nan")) for row in rows]),
        ),
        places,
        resources,
    )


def read_pods(path: Path, places: list[Place], resources: tuple[str, ...]) -> PodColumns:
    """Read the pods.

    Args:
        path: the file.
        places: the nodes.
        resources: names of the nodes' resources.

    Raises:
        TraceError: something in the file is not as documented.
    """
    further = resources[len(BASE_RESOURCES) :]
    _, rows = read_table(path, POD_COLUMNS, (*OPTIONAL_POD_COLUMNS, *further))
    refuse_repeated_names(path, rows)
    request = np.zeros((len(rows), len(resources)), np.int64)
    gpu_count, gpu_milli = np.zeros((2, len(rows)), np.int64)
    for index, row in enumerate(rows):
        request[index, CPU] = row.amount("cpu", quantity.to_milli)
        request[index, MEMORY] = row.amount("memory")
        gpu_count[index], gpu_milli[index] = gpus(row)
        for position, column in enumerate(further, start=len(BASE_RESOURCES)):
            request[index, position] = row.amount(column, default=0)
    request[:, GPU] = gpu_count * gpu_milli
    of_pod, admitted = admitted_nodes([constraint_of(row) for row in rows], places)
    return PodColumns(
        request,
        gpu_count,
        gpu_milli,
        duration=np.array([row.seconds("duration") for row in rows]),
        priority=np.array([row.whole("priority", LOWEST_PRIORITY, HIGHEST_PRIORITY, default=0) for row in rows]),
        arrival=arrivals(rows),
        expected=np.array([row.seconds("expected_seconds", default=0.0) for row in rows]),
        constraint=np.array(of_pod),
        admitted=admitted,
    )


def is_further_resource(column: str) -> bool:
    """Whether a column names a resource beside CPU, memory and GPU, by the rules for names that Kubernetes has."""
    return "/" in column or column == "ephemeral-storage" or column.startswith("hugepages-")


def refuse_repeated_names(path: Path, rows: list[Row]) -> None:
    """Raise a TraceError where a name is missing or occurs twice."""
    lines: dict[str, int] = {}
    for row in rows:
        name = row.text("name")
        if not name:
            row.refuse("name", "a name")
        if name in lines:
            row.refuse("name", f"a name that is not yet in {path.name} (it is on line {lines[name]})")
        lines[name] = row.line


def gpus(row: Row) -> tuple[int, int]:
    """How many GPUs a pod asks for, and how many thousandths of each; raises TraceError."""
    count = row.whole("gpus", at_most=GPUS_ASKED_AT_MOST, default=0)
    milli = row.whole("gpu_milli", at_most=WHOLE_DEVICE_MILLI, default=WHOLE_DEVICE_MILLI if count else 0)
    if count == 0 and milli:
        row.refuse("gpu_milli", "nothing, because the pod asks for 0 gpus,")
    if count > 1 and milli != WHOLE_DEVICE_MILLI:
        row.refuse("gpu_milli", f"{WHOLE_DEVICE_MILLI}, because only a pod with 1 GPU may share it,")
    if count == 1 and milli == 0:
        row.refuse("gpu_milli", f"1 to {WHOLE_DEVICE_MILLI} thousandths of the GPU")
    return count, milli


def constraint_of(row: Row) -> Constraint:
    """Where a pod may run; raises TraceError."""
    models = {model.strip() for model in row.text("gpu_models").split("|")} if row.text("gpu_models") else set()
    if "" in models:
        row.refuse("gpu_models", "names of GPU models separated by |")
    selector = tuple(Requirement(key, "In", (value,)) for key, value in sorted(pairs(row, "node_selector")))
    return Constraint(frozenset(models), selector, None, tolerations(row))


def pairs(row: Row, column: str) -> list[tuple[str, str]]:
    """`key=value;key=value`; raises TraceError."""
    found = []
    for part in filter(None, (part.strip() for part in row.text(column).split(";"))):
        key, equals, value = part.partition("=")
        if not key or not equals:
            row.refuse(column, PAIRS)
        found.append((key, value))
    return found


def taints(row: Row) -> tuple[Taint, ...]:
    """`key=value:effect;key:effect`, as `kubectl taint` writes them; raises TraceError."""
    found = []
    for part in filter(None, (part.strip() for part in row.text("taints").split(";"))):
        pair, _, effect = part.partition(":")
        key, _, value = pair.partition("=")
        if not key or effect not in EFFECTS:
            row.refuse("taints", f"key=value:effect separated by ;, with an effect of {', '.join(EFFECTS)},")
        found.append(Taint(key, value, effect))
    return tuple(found)


def tolerations(row: Row) -> tuple[Toleration, ...]:
    """`key=value:effect`, `key:effect`, `key` or `*`, separated by `;`; raises TraceError."""
    found = []
    for part in filter(None, (part.strip() for part in row.text("tolerations").split(";"))):
        pair, colon, effect = part.partition(":")
        key, equals, value = pair.partition("=")
        if not key or (colon and effect not in EFFECTS) or (key == "*" and equals):
            row.refuse(
                "tolerations", f"key=value:effect, key:effect, key or *, with an effect of {', '.join(EFFECTS)},"
            )
        found.append(Toleration("" if key == "*" else key, "Equal" if equals else "Exists", value, effect))
    return tuple(found)


def arrivals(rows: list[Row]) -> FloatArray:
    """Seconds since the midnight before the first arrival; (P,) float64.

    All are seconds since some midnight (Unix seconds are), or all are dates; raises TraceError.
    """
    dated = not _is_number(rows[0].text("arrival"))
    expected = "a date such as 2026-11-21T08:30:00Z" if dated else "a number of seconds, 0 or more,"
    times = []
    for row in rows:
        if not dated:
            times.append(row.number("arrival", expected))
            continue
        try:
            moment = datetime.fromisoformat(row.text("arrival"))
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            row.refuse("arrival", expected if row is not rows[0] else f"{expected} or a number of seconds")
        if not 0.0 <= seconds <= LARGEST:
            row.refuse("arrival", "a date after 1970")
        times.append(seconds)
    table = np.array(times)
    return table - table.min() // DAY_SECONDS * DAY_SECONDS


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
