"""The published openb benchmark: how much of the cluster's GPU capacity a rule gets allocated as pods keep arriving.

    python -m training.benchmarks.openb --mix default --policy fgd --seeds 42-51
    python -m training.benchmarks.openb --traces DIR --mix all --policy fgd,bestfit --json result.json

Pods arrive in the order of the published runs until their demand reaches 130 % of the capacity; none leaves. The
allocation at each percent of arrived load is compared with the authors' own numbers (`published_allocation.csv`).
Source: "Beware of Fragmentation" (USENIX ATC'23) and its public simulator, hkust-adsl/kubernetes-scheduler-simulator.
"""

import argparse
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from training.progress import track
from training.simulator.fragmentation import DEVICE_SLOTS, FragmentationTables
from training.simulator.packing import (
    CLASSES,
    POLICY_NUMBERS,
    WHOLE,
    PackingNodes,
    PackingShapes,
    play,
)
from training.workloads.openb import NODE_FILE, TraceError, find_traces

LOAD_STEPS = 131
TYPICAL_COVERAGE = 0.95
PUBLISHED_FILE = "published_allocation.csv"
PUBLISHED_NAMES = {
    "bestfit": "BestFit",
    "dotprod": "DotProd",
    "gpupacking": "GpuPacking",
    "gpuclustering": "GpuClustering",
    "fgd": "FGD",
}


@dataclass(frozen=True)
class Mix:
    """A mix of the trace, ready to be played.

    Attributes:
        shapes: the distinct pods.
        shape: (P,) int64, the shape of each pod, pods in the order of their names.
        tables: typical pods.
        nodes: the empty cluster; copied for each run.
        arrivals: by seed, (A,) int64 positions in `shape`.
        tiebreak: by seed, (N,) int64.
    """

    shapes: PackingShapes
    shape: np.ndarray
    tables: FragmentationTables
    nodes: PackingNodes
    arrivals: dict[int, np.ndarray]
    tiebreak: dict[int, np.ndarray]


@dataclass(frozen=True)
class Run:
    """One run; allocation in % at each percent of arrived load, None where no pod arrived near it."""

    mix: str
    policy: str
    seed: int
    allocation: list[float | None]
    dropped: int
    seconds: float


Shape = tuple[int, int, int, int, str]  # cpu milli, memory MiB, GPU count, GPU milli each, models joined by |


def read_mix(folder: Path, mix: str) -> Mix:
    """Read nodes, pods and published arrival orders of one mix.

    Raises:
        TraceError: a file is missing or a row cannot be read.
    """
    node_rows = list(_rows(folder / NODE_FILE))
    models = sorted({row["model"] for row in node_rows})
    model = np.array([models.index(row["model"]) for row in node_rows])
    devices = np.array([int(row["gpu"]) for row in node_rows])
    device_free = np.where(np.arange(DEVICE_SLOTS) < devices[:, None], WHOLE, 0)
    nodes = PackingNodes(
        cpu_free=np.array([int(row["cpu_milli"]) for row in node_rows]),
        memory_free=np.array([int(row["memory_mib"]) for row in node_rows]),
        device_free=device_free,
        device_count=devices,
        gpu_free=device_free.sum(axis=1),
        model=model,
        classes=np.zeros((len(node_rows), CLASSES), np.int64),
        fragmentation=np.zeros(len(node_rows)),
        version=np.zeros(len(node_rows), np.int32),
    )
    pods = [_shape(row) for row in sorted(_rows(folder / f"openb_pod_list_{mix}.csv"), key=lambda row: row["name"])]
    distinct = list(dict.fromkeys(pods))
    position = {shape: index for index, shape in enumerate(distinct)}
    admits = np.array([[_admits(shape[4], row["model"]) for row in node_rows] for shape in distinct])
    columns = np.array([shape[:4] for shape in distinct], np.int64).T.copy()
    order_file = folder / "arrivals" / f"{mix}.npz"
    if not order_file.is_file():
        raise TraceError(f"{order_file}: no such file; the order of the published arrivals is needed")
    with np.load(order_file) as orders:
        seeds = sorted(int(name.removeprefix("pods_")) for name in orders.files if name.startswith("pods_"))
        return Mix(
            shapes=PackingShapes(*columns, admits),
            shape=np.array([position[shape] for shape in pods]),
            tables=fragmentation_tables(pods, models),
            nodes=nodes,
            arrivals={seed: orders[f"pods_{seed}"].astype(np.int64) for seed in seeds},
            tiebreak={seed: orders[f"tiebreak_{seed}"].astype(np.int64) for seed in seeds},
        )


def fragmentation_tables(pods: Sequence[Shape], models: Sequence[str]) -> FragmentationTables:
    """The typical pods of a mix: its most frequent shapes, until they cover 95 % of the pods.

    Equally frequent shapes come in descending order of CPU, milli, count and models, and a share is a share of the pods
    over the share that is covered: both decide the rounding of the published sums.
    Source: pkg/utils/frag.go and pkg/type of the public simulator.
    """
    counts = Counter((cpu, milli, count, spec) for cpu, _, count, milli, spec in pods)
    typical: list[tuple[int, int, int, str]] = []
    covered = 0
    for shape, count in sorted(counts.items(), key=lambda entry: (entry[1], entry[0]), reverse=True):
        if covered >= TYPICAL_COVERAGE * len(pods):
            break
        typical.append(shape)
        covered += count
    share = np.array([counts[shape] / len(pods) / (covered / len(pods)) for shape in typical])
    admits = np.array([[_admits(spec, model) for *_, spec in typical] for model in models])

    with_gpu = [index for index, shape in enumerate(typical) if shape[1] > 0]
    edges = np.unique([typical[index][0] for index in with_gpu]).astype(np.int64)
    groups = sorted({(typical[index][1], typical[index][2]) for index in with_gpu})
    levels = sorted({milli for milli, _ in groups})
    served = np.zeros((len(models), len(edges) + 1, len(groups)))
    for index in with_gpu:
        cpu, milli, count, _ = typical[index]
        first_bin = int(np.searchsorted(edges, cpu, side="right"))
        served[admits[:, index], first_bin:, groups.index((milli, count))] += share[index]
    return FragmentationTables(
        cpu_edges=edges,
        level_milli=np.array(levels, np.int64),
        group_level=np.array([levels.index(milli) for milli, _ in groups], np.int64),
        group_count=np.array([count for _, count in groups], np.int64),
        served=served,
        unserved=share.sum() - served.sum(axis=2),
        cpu=np.array([shape[0] for shape in typical], np.int64),
        gpu_count=np.array([shape[2] for shape in typical], np.int64),
        gpu_milli=np.array([shape[1] for shape in typical], np.int64),
        share=share,
        admits=admits,
    )


def play_run(mix: Mix, name: str, policy: str, seed: int) -> Run:
    """Play one published run with a rule."""
    nodes = PackingNodes(*(array.copy() for array in mix.nodes))
    arrivals = mix.shape[mix.arrivals[seed]]
    started = time.perf_counter()
    placed = play(POLICY_NUMBERS[policy], nodes, mix.shapes, mix.tables, arrivals, mix.tiebreak[seed])
    seconds = time.perf_counter() - started
    demand = (mix.shapes.gpu_count * mix.shapes.gpu_milli)[arrivals]
    capacity = int(mix.nodes.gpu_free.sum())
    allocation = allocation_by_load(demand, placed >= 0, capacity)
    return Run(name, policy, seed, allocation, int(np.sum(placed < 0)), seconds)


def allocation_by_load(demand: np.ndarray, placed: np.ndarray, capacity: int) -> list[float | None]:
    """Mean allocation, in % of the capacity, at each percent of arrived load.

    Args:
        demand: (A,) int64 GPU milli of each pod in order of arrival.
        placed: (A,) bool.
        capacity: GPU milli of the cluster.

    Returns:
        131 numbers rounded to 2 digits, None where no pod arrived within one step.
    """
    arrived = np.round(np.concatenate([[0], np.cumsum(demand)]) / capacity * 100, 0).astype(np.int64)
    allocated = np.round(np.concatenate([[0], np.cumsum(np.where(placed, demand, 0))]) / capacity * 100, 2)
    result: list[float | None] = []
    for step in range(LOAD_STEPS):
        here = arrived == step
        if not here.any():
            here = np.abs(arrived - step) <= 1
        result.append(round(float(allocated[here].mean()), 2) if here.any() else None)
    return result


def read_published(folder: Path) -> dict[tuple[str, str, int], list[float | None]]:
    """The authors' numbers by mix, policy (as named here) and seed; empty where the file is not there."""
    path = folder / PUBLISHED_FILE
    if not path.is_file():
        return {}
    names = {published: ours for ours, published in PUBLISHED_NAMES.items()}
    return {
        (row["trace"], names[row["policy"]], int(row["seed"])): [
            float(row[str(step)]) if row[str(step)] else None for step in range(LOAD_STEPS)
        ]
        for row in _rows(path)
        if row["policy"] in names
    }


def differing_cells(ours: Sequence[float | None], published: Sequence[float | None]) -> int:
    """How many of the load steps differ by more than 0.01 points, or are defined in one of the two only."""
    return sum(
        (mine is None) != (theirs is None) or (mine is not None and theirs is not None and abs(mine - theirs) > 0.0101)
        for mine, theirs in zip(ours, published, strict=True)
    )


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if not path.is_file():
        raise TraceError(f"{path}: no such file")
    with path.open(newline="") as file:
        yield from csv.DictReader(file)


def _shape(row: dict[str, str]) -> Shape:
    count = int(row["num_gpu"])
    milli = int(row["gpu_milli"] or 0) if count else 0
    return int(row["cpu_milli"]), int(row["memory_mib"]), count, milli, row.get("gpu_spec") or ""


def _admits(spec: str, model: str) -> bool:
    return not spec or model in spec.split("|")


def table_of(runs: Sequence[Run], published: dict[tuple[str, str, int], list[float | None]]) -> Table:
    """Final allocation per mix and policy, beside the published one."""
    table = Table(title="GPU allocation when pods worth 130 % of the capacity have arrived, %")
    for heading in ("mix", "policy", "runs", "mean", "std", "published", "differing cells", "seconds a run"):
        table.add_column(heading, justify="left" if heading in ("mix", "policy") else "right")
    for mix, policy in dict.fromkeys((run.mix, run.policy) for run in runs):
        of_policy = [run for run in runs if (run.mix, run.policy) == (mix, policy)]
        final = np.array([run.allocation[-1] for run in of_policy], np.float64)
        known = [(run, published[mix, policy, run.seed]) for run in of_policy if (mix, policy, run.seed) in published]
        theirs = np.array([cells[-1] for _, cells in known], np.float64)
        table.add_row(
            mix,
            policy,
            str(len(of_policy)),
            f"{final.mean():.2f}",
            f"{final.std(ddof=1):.2f}" if len(final) > 1 else "",
            f"{theirs.mean():.2f}" if known else "",
            f"{sum(differing_cells(run.allocation, cells) for run, cells in known)} of {len(known) * LOAD_STEPS}",
            f"{np.median([run.seconds for run in of_policy]):.3f}",
        )
    return table


def parse_seeds(text: str) -> list[int]:
    """Seeds as `42`, `42-51` or `42,45-47`.

    Example:
        >>> parse_seeds("42,45-47")
        [42, 45, 46, 47]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            seeds += range(int(first), int(last or first) + 1)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: expected seeds as 42, 42-51 or 42,45-47") from None
    return seeds


def parse_policies(text: str) -> list[str]:
    """Policies joined by commas, or all."""
    policies = list(POLICY_NUMBERS) if text == "all" else text.split(",")
    if unknown := set(policies) - set(POLICY_NUMBERS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: expected {', '.join(POLICY_NUMBERS)} or all")
    return policies


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.benchmarks.openb",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--traces", help="folder with the openb files; else STOWAGE_TRACES, else ../shared/traces")
    parser.add_argument("--mix", default="default", help="mixes joined by commas, or all (default: %(default)s)")
    parser.add_argument(
        "--policy", type=parse_policies, default="fgd", help=f"joined by commas, of {', '.join(POLICY_NUMBERS)}, or all"
    )
    parser.add_argument("--seeds", type=parse_seeds, default="42-51", help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run with its 131 numbers")
    return parser.parse_args(arguments)


def main() -> None:
    """Entry of `python -m training.benchmarks.openb`."""
    arguments = parse_arguments()
    console = Console() if sys.stdout.isatty() else Console(width=120)
    try:
        folder = find_traces(arguments.traces)
        if folder is None:
            raise TraceError("no openb trace was found: name its folder by --traces (the README says where to get it)")
        mixes = arguments.mix.split(",")
        if arguments.mix == "all":
            mixes = sorted(path.stem.removeprefix("openb_pod_list_") for path in folder.glob("openb_pod_list_*.csv"))
        runs: list[Run] = []
        with track(console, "playing", len(mixes) * len(arguments.policy) * len(arguments.seeds)) as tracker:
            for name in mixes:
                mix = read_mix(folder, name)
                if missing := set(arguments.seeds) - set(mix.arrivals):
                    raise TraceError(f"{name} has no arrivals for seed {min(missing)}, only for {sorted(mix.arrivals)}")
                for policy in arguments.policy:
                    for seed in arguments.seeds:
                        tracker.update(len(runs), f"{policy} on {name}")
                        runs.append(play_run(mix, name, policy, seed))
            tracker.update(len(runs))
        published = read_published(folder)
    except TraceError as error:
        print(f"openb: {error}", file=sys.stderr)
        sys.exit(2)
    console.print(table_of(runs, published))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(run) for run in runs]) + "\n")


if __name__ == "__main__":
    main()
