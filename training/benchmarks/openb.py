"""The published openb benchmark: how much of the cluster's GPU capacity a rule gets allocated as pods keep arriving.

    python -m training.benchmarks.openb --mix default --policy fgd --seeds 42-51
    python -m training.benchmarks.openb --traces DIR --mix all --policy fgd,bestfit,policy.onnx --json result.json

Pods arrive in the order of the published runs until their demand reaches 130 % of the capacity; none leaves. The
allocation at each percent of arrived load is compared with the authors' own numbers (`published_allocation.csv`).
Rules run in the simulator's own event loop, as the functions that the extender serves; what is special here are the
order of arrival, who wins among equals, and the rounding of FGD's sums. Further rules of the simulator may be named
too (first-fit, most-allocated, …); random draws among the nodes, so the published numbers are a band for it.
The seconds of a run never contain compilation: every policy first plays a few pods that are not measured.

Exit codes: 0 done; 1 the file of --json could not be written; 2 the arguments, a policy file or the trace were refused,
and nothing was played; 130 interrupted.

Source: "Beware of Fragmentation" (USENIX ATC'23) and its public simulator, hkust-adsl/kubernetes-scheduler-simulator.
"""

import argparse
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import scipy
from rich.console import Console
from rich.table import Table

from extender.closed_pipe import quiet_on_closed_pipe
from extender.fragmentation import TypicalPods
from extender.placement import CPU, GPU, WHOLE_DEVICE_MILLI
from extender.policies.base import PolicyError
from extender.policies.bundled import PREFIX, policy_path
from extender.policies.onnx import OnnxPolicy, load_policy
from training.evaluation.report import write_whole
from training.progress import track
from training.simulator.scheduling import RANDOM_TIES, SchedulerArguments, play_policy, play_rule, prepare
from training.simulator.scoring import PUBLISHED_FGD, RULE_NUMBERS, empty_cache
from training.simulator.state import NOWHERE
from training.workloads.assembly import PodColumns, assemble, columns_of_nodes, request_columns
from training.workloads.base import FloatArray, IntArray, Population, Workload
from training.workloads.filling import never_leaving
from training.workloads.openb import MIB, NODE_FILE, TraceError, find_traces
from training.workloads.tables import Row, read_table

LOAD_STEPS = 131
WARM_UP_ARRIVALS = 10
SEEDS_AT_MOST = 10_000  # a run each; more is a slip of the hand
ORDER_NAME = re.compile(r"(pods|tiebreak)_(0|[1-9][0-9]{0,17})")
TYPICAL_COVERAGE = 0.95
LARGEST_NODE = {CPU: 128_000, GPU: 8_000}  # what the published scorings divide by, whatever nodes there are
PUBLISHED_FILE = "published_allocation.csv"
PUBLISHED_RULES = {
    "random": ("Random", "random"),
    "bestfit": ("BestFit", "best-fit"),
    "dotprod": ("DotProd", "dot-product"),
    "gpupacking": ("GpuPacking", "gpu-packing"),
    "gpuclustering": ("GpuClustering", "gpu-clustering"),
    "fgd": ("FGD", "fgd"),
}
"""The published policies by their name here: the authors' name, and the rule's in `heuristics.RULES`."""

Shape = tuple[int, int, int, str]  # cpu milli, GPU milli each, GPU count, models joined by |


class ArgumentError(ValueError):
    """The command line asks for something that cannot be; the message says what can."""


@dataclass(frozen=True)
class Mix:
    """A mix of the trace, ready to be played.

    Attributes:
        population: the nodes, and the pods in the order of their names.
        typical: typical pods, in the published order.
        arrivals: by seed, (A,) int64 positions in `population.shape`.
        tiebreak: by seed, (N,) int64.
    """

    population: Population
    typical: TypicalPods
    arrivals: dict[int, IntArray]
    tiebreak: dict[int, IntArray]

    def workload(self, seed: int) -> Workload:
        """The pods of a published run: one a second, and none leaves."""
        population = self.population
        everywhere = np.arange(len(population.devices))
        return never_leaving(population, everywhere, population.shape[self.arrivals[seed]], self.typical)


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        mix: its name.
        policy: its name.
        seed: of the run.
        allocation: in % at each percent of arrived load, None where no pod arrived near it.
        dropped: pods that found no node.
        seconds: of playing; compilation is not in it if `warm_up` came first.
    """

    mix: str
    policy: str
    seed: int
    allocation: list[float | None]
    dropped: int
    seconds: float


def read_mix(folder: Path, mix: str) -> Mix:
    """Read nodes, pods and published arrival orders of one mix.

    Raises:
        TraceError: a file is missing, or a row or an array cannot be used.
    """
    _, node_rows = read_table(folder / NODE_FILE, ("cpu_milli", "memory_mib", "gpu", "model"))
    capacities = [(row.whole("cpu_milli"), row.whole("memory_mib"), row.whole("gpu")) for row in node_rows]
    node_models = [row.text("model") for row in node_rows]
    _, pod_rows = read_table(
        folder / f"openb_pod_list_{mix}.csv", ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
    )
    pod_rows.sort(key=lambda row: row.text("name"))
    requests = [_request(row) for row in pod_rows]
    admitted_models = [row.text("gpu_spec") for row in pod_rows]
    specs = sorted(set(admitted_models))
    population = assemble(
        f"openb ({mix})",
        columns_of_nodes(capacities, MIB, node_models),
        PodColumns(
            *request_columns(requests, MIB),
            duration=np.full(len(requests), np.inf),
            priority=np.zeros(len(requests), np.int64),
            constraint=np.array([specs.index(spec) for spec in admitted_models]),
            arrival=np.arange(len(requests), dtype=np.float64),
            admitted=np.array([[_admits(spec, model) for model in node_models] for spec in specs]),
        ),
    )
    shapes = [(cpu, milli, count, spec) for (cpu, _, count, milli), spec in zip(requests, admitted_models, strict=True)]
    arrivals, tiebreak = read_orders(folder / "arrivals" / f"{mix}.npz", len(requests), len(capacities))
    return Mix(population, published_typical_pods(shapes, population.models), arrivals, tiebreak)


def read_orders(path: Path, pods: int, nodes: int) -> tuple[dict[int, IntArray], dict[int, IntArray]]:
    """Read who arrives when, and who wins among equals.

    Args:
        path: a .npz file with the arrays pods_<seed>, (A,), and tiebreak_<seed>, (N,), for each seed.
        pods: how many there are to arrive.
        nodes: N.

    Returns:
        both by seed, as in `Mix`.

    Raises:
        TraceError: the file is missing or holds something else; the message says which array, and what it should be.
    """
    if not path.is_file():
        raise TraceError(f"{path}: no such file; the order of the published arrivals is needed")
    found: dict[str, dict[int, IntArray]] = {"pods": {}, "tiebreak": {}}
    for name, array in _arrays(path):
        match = ORDER_NAME.fullmatch(name)
        if match is None:
            raise TraceError(f"{path}: {name}: expected arrays named pods_<seed> and tiebreak_<seed>, as pods_42")
        expected = f"whole numbers of 0 to {pods - 1}, one or more" if match[1] == "pods" else f"{nodes} whole numbers"
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or array.ndim != 1:
            given = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "no array"
            raise TraceError(f"{path}: {name}: {given}, expected {expected}")
        if match[1] == "pods":
            if not len(array):
                raise TraceError(f"{path}: {name}: empty, expected {expected}")
            if array.min() < 0 or array.max() >= pods:
                raise TraceError(f"{path}: {name}: {array.min()} to {array.max()}, expected {expected}")
        elif len(array) != nodes:
            raise TraceError(f"{path}: {name}: {len(array)} numbers for {nodes} nodes, expected {expected}")
        elif array.max() > np.iinfo(np.int64).max or len(np.unique(array)) < nodes:
            raise TraceError(f"{path}: {name}: equal or too large numbers, expected {expected}, each another")
        found[match[1]][int(match[2])] = array.astype(np.int64)
    arrivals, tiebreak = (dict(sorted(orders.items())) for orders in found.values())
    for seed in arrivals.keys() ^ tiebreak.keys():
        given, missing = ("pods", "tiebreak") if seed in arrivals else ("tiebreak", "pods")
        raise TraceError(f"{path}: {given}_{seed} is there, expected {missing}_{seed} beside it")
    if not arrivals:
        raise TraceError(f"{path}: no arrays, expected pods_<seed> and tiebreak_<seed>")
    return arrivals, tiebreak


def _arrays(path: Path) -> list[tuple[str, object]]:
    try:
        loaded = np.load(path)
        if isinstance(loaded, np.ndarray):
            raise TraceError(f"{path}: a single array, expected a .npz file with pods_<seed> and tiebreak_<seed>")
        with loaded:
            arrays: list[tuple[str, object]] = []
            for name in loaded.files:
                try:
                    arrays.append((name, loaded[name]))
                except Exception as error:
                    raise TraceError(f"{path}: {name}: cannot be read: {error}; expected whole numbers") from error
            return arrays
    except TraceError:
        raise
    except Exception as error:  # what numpy, zipfile and zlib raise for a damaged file has no common base but Exception
        raise TraceError(f"{path}: cannot be read: {error}; expected a .npz file as numpy.savez writes it") from error


def published_typical_pods(pods: Sequence[Shape], models: Sequence[str]) -> TypicalPods:
    """The typical pods of a mix: its most frequent shapes, until they cover 95 % of the pods.

    Equally frequent shapes come in descending order of CPU, milli, count and models, and a share is a share of the pods
    over the share that is covered: both decide the rounding of the published sums.
    Source: pkg/utils/frag.go and pkg/type of the public simulator.
    """
    counts = Counter(pods)
    typical: list[Shape] = []
    covered = 0
    for shape, count in sorted(counts.items(), key=lambda entry: (entry[1], entry[0]), reverse=True):
        if covered >= TYPICAL_COVERAGE * len(pods):
            break
        typical.append(shape)
        covered += count
    cpu, gpu_milli, gpu_count, _ = zip(*typical, strict=True)
    return TypicalPods(
        np.array(cpu, np.int64),
        np.array(gpu_count, np.int64),
        np.array(gpu_milli, np.int64),
        np.array([counts[shape] / len(pods) / (covered / len(pods)) for shape in typical]),
        np.array([[_admits(spec, model) for model in models] for *_, spec in typical]),
    )


def play_run(mix: Mix, name: str, policy: str | OnnxPolicy, seed: int) -> Run:
    """Play one published run.

    Args:
        mix: what is played.
        name: of the mix.
        policy: a key of `PUBLISHED_RULES`, the name of any other rule, or a policy.
        seed: of the run; it decides among equals for `random` too.
    """
    workload = mix.workload(seed)
    episode = prepare(workload, SchedulerArguments(ordering="fifo"))
    for resource, amount in LARGEST_NODE.items():
        episode.cluster.largest[resource] = amount
    generator = np.random.default_rng(seed)
    started = time.perf_counter()
    if isinstance(policy, OnnxPolicy):
        play_policy(episode, policy, workload.typical, generator)
    else:
        rule = PUBLISHED_RULES[policy][1] if policy in PUBLISHED_RULES else policy
        number = PUBLISHED_FGD if policy == "fgd" else RULE_NUMBERS[rule]
        cache = empty_cache(len(workload.shapes), len(workload.allocatable))
        ties = RANDOM_TIES if rule == "random" else mix.tiebreak[seed]
        play_rule(episode, number, cache, workload.typical, ties, generator)
    seconds = time.perf_counter() - started
    demand = workload.shapes.request[workload.shape, GPU]
    placed = episode.pods.node != NOWHERE
    allocation = allocation_by_load(demand, placed, int(workload.allocatable[:, GPU].sum()))
    return Run(name, policy if isinstance(policy, str) else policy.name, seed, allocation, int(sum(~placed)), seconds)


def warm_up(mix: Mix, name: str, policies: Sequence[str | OnnxPolicy]) -> None:
    """Let every policy play a few pods, so that what it needs is compiled before anything is measured."""
    seed = min(mix.arrivals)
    few = replace(mix, arrivals={seed: mix.arrivals[seed][:WARM_UP_ARRIVALS]})
    for policy in policies:
        play_run(few, name, policy, seed)


def check_resources(mix: Mix, policies: Sequence[str | OnnxPolicy]) -> None:
    """Refuse policies that were made for other resources.

    Raises:
        PolicyError: names the policy, its resources and the trace's.
    """
    known = mix.population.resources
    for policy in policies:
        if isinstance(policy, OnnxPolicy) and policy.resources != known:
            raise PolicyError(
                f"{policy.name}: made for the resources {', '.join(policy.resources)}, expected those of the trace: "
                f"{', '.join(known)}"
            )


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
    """The authors' numbers by mix, policy (as named here) and seed; empty where the file is not there.

    Rows of policies that are not known here are left out.

    Raises:
        TraceError: a column is missing or a cell is no number; the message names file, line and column.
    """
    path = folder / PUBLISHED_FILE
    if not path.is_file():
        return {}
    names = {published: ours for ours, (published, _) in PUBLISHED_RULES.items()}
    steps = [str(step) for step in range(LOAD_STEPS)]
    _, rows = read_table(path, ("trace", "policy", "seed", *steps))
    return {
        (row.text("trace"), names[row.text("policy")], row.whole("seed")): [
            row.number(step, "an allocation in %, or nothing") if row.text(step) else None for step in steps
        ]
        for row in rows
        if row.text("policy") in names
    }


def differing_cells(ours: Sequence[float | None], published: Sequence[float | None]) -> int:
    """How many of the load steps differ by more than 0.01 points, or are defined in one of the two only."""
    return sum(
        (mine is None) != (theirs is None) or (mine is not None and theirs is not None and abs(mine - theirs) > 0.0101)
        for mine, theirs in zip(ours, published, strict=True)
    )


def _request(row: Row) -> tuple[int, int, int, int]:
    count = row.whole("num_gpu")
    milli = row.whole("gpu_milli", at_most=WHOLE_DEVICE_MILLI, default=0) if count else 0
    if count > 1 and milli != WHOLE_DEVICE_MILLI:
        row.refuse("gpu_milli", f"{WHOLE_DEVICE_MILLI} for a pod with {count} GPUs (only single GPUs are shared)")
    return row.whole("cpu_milli"), row.whole("memory_mib"), count, milli


def _admits(spec: str, model: str) -> bool:
    return not spec or model in spec.split("|")


def table_of(runs: Sequence[Run], published: dict[tuple[str, str, int], list[float | None]]) -> Table:
    """Final allocation per mix and policy, beside the published one and FGD's.

    Where the pods of a mix end before the last load step, the numbers are those at the last one that every run reached,
    and the mean says which that is.
    """
    table = Table(title="GPU allocation when pods worth 130 % of the capacity have arrived, %")
    for heading in ("mix", "policy", "runs", "mean", "std", "published", "minus FGD [95 %]", "cells off", "s a run"):
        table.add_column(heading, justify="left" if heading in ("mix", "policy") else "right")
    played = {(run.mix, run.policy, run.seed): run.allocation for run in runs}
    for mix, policy in dict.fromkeys((run.mix, run.policy) for run in runs):
        of_policy = [run for run in runs if (run.mix, run.policy) == (mix, policy)]
        step = last_step(of_policy)
        ours = np.array([run.allocation[step] for run in of_policy], np.float64)
        allocations = [(published | played).get((mix, "fgd", run.seed)) for run in of_policy]
        fgd = [None if allocation is None else allocation[step] for allocation in allocations]
        known = [(run, published[mix, policy, run.seed]) for run in of_policy if (mix, policy, run.seed) in published]
        theirs = [cells[step] for _, cells in known]
        off = f"{sum(differing_cells(run.allocation, cells) for run, cells in known)} of {len(known) * LOAD_STEPS}"
        table.add_row(
            mix,
            policy,
            str(len(of_policy)),
            f"{ours.mean():.2f}" + (f" at {step} %" if step < LOAD_STEPS - 1 else ""),
            f"{ours.std(ddof=1):.2f}" if len(ours) > 1 else "",
            ("-" if None in theirs else f"{np.array(theirs, np.float64).mean():.2f}") if known else "",
            "" if policy == "fgd" or None in fgd else describe_difference(ours - np.array(fgd, np.float64)),
            ("a band" if policy == "random" else off) if known else "",
            f"{np.median([run.seconds for run in of_policy]):.3f}",
        )
    return table


def last_step(runs: Sequence[Run]) -> int:
    """The last load step at which every run has a number; 0 always has one, before the first pod."""
    return max(step for step in range(LOAD_STEPS) if all(run.allocation[step] is not None for run in runs))


def describe_difference(differences: FloatArray) -> str:
    """Mean of paired differences with its 95 % bootstrap interval, which a single pair does not have."""
    if len(differences) < 2:
        return f"{differences.mean():+.2f}"
    drawn = scipy.stats.bootstrap((differences,), np.mean, rng=np.random.default_rng(0), method="percentile")
    interval = drawn.confidence_interval
    return f"{differences.mean():+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def parse_seeds(text: str) -> list[int]:
    """Seeds as `42`, `42-51` or `42,45-47`, each once.

    Example:
        >>> parse_seeds("42,45-47,46")
        [42, 45, 46, 47]
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*", part)
        if match is None:
            raise argparse.ArgumentTypeError(f"{text!r}: expected seeds as 42, 42-51 or 42,45-47")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise argparse.ArgumentTypeError(f"{text!r}: expected first <= last in a range, as {last}-{first}")
        if last - first + 1 > SEEDS_AT_MOST - len(seeds):
            raise argparse.ArgumentTypeError(f"{text!r}: more than {SEEDS_AT_MOST:,} seeds, expected fewer, as 42-51")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def parse_policies(text: str) -> list[str | OnnxPolicy]:
    """Policies joined by commas, each once; `all` is every published one, and what ends in .onnx a policy file."""
    entries: dict[str | Path, str | Path] = {}  # what was named, by what it is: files may be named in several ways
    for name in (part.strip() for part in text.split(",")):
        if name == "all":
            entries |= {rule: rule for rule in PUBLISHED_RULES}
        elif name.endswith(".onnx") or name.startswith(PREFIX):
            try:
                path = policy_path(name)
            except PolicyError as error:
                raise argparse.ArgumentTypeError(str(error)) from error
            entries.setdefault(path.resolve(), path)
        elif name in PUBLISHED_RULES or name in RULE_NUMBERS:
            entries[name] = name
        else:
            known = ", ".join([*PUBLISHED_RULES, *(rule for rule in RULE_NUMBERS if rule not in PUBLISHED_RULES)])
            raise argparse.ArgumentTypeError(f"{name}: expected {known}, a path to a .onnx file, or all")
    names = names_of([path for path in entries.values() if isinstance(path, Path)])
    policies: list[str | OnnxPolicy] = []
    for entry in entries.values():
        if isinstance(entry, str):
            policies.append(entry)
            continue
        try:
            policy = load_policy(entry)
        except PolicyError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        policy.name = names[entry]
        policies.append(policy)
    return policies


def names_of(files: Sequence[Path]) -> dict[Path, str]:
    """What policy files are called: by themselves or, where that is policy.onnx, their folder, if nothing else is.

    Example:
        >>> list(names_of([Path("new.onnx"), Path("runs/a/policy.onnx"), Path("fgd.onnx")]).values())
        ['new', 'a', 'fgd.onnx']
    """
    short = {path: path.resolve().parent.name if path.stem == "policy" else path.stem for path in files}
    taken = Counter([*short.values(), *{*PUBLISHED_RULES, *RULE_NUMBERS}])
    return {path: name if name and taken[name] == 1 else str(path) for path, name in short.items()}


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.benchmarks.openb",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--traces", help="folder with the openb files; else STOWAGE_TRACES, else ../shared/traces")
    parser.add_argument("--mix", default="default", help="mixes joined by commas, or all (default: %(default)s)")
    parser.add_argument(
        "--policy",
        type=parse_policies,
        default="fgd",
        help=f"joined by commas, of {', '.join(PUBLISHED_RULES)}, any other rule, .onnx files, bundled:NAME; or all",
    )
    parser.add_argument("--seeds", type=parse_seeds, default="42-51", help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run with its 131 numbers")
    return parser


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return argument_parser().parse_args(arguments)


def check_output(path: Path) -> None:
    """Refuse a file that could not be written when all is played.

    Raises:
        ArgumentError: its folder is missing or read-only, or something that is no file has its name.
    """
    if not path.parent.is_dir():
        raise ArgumentError(f"--json: {path}: there is no folder {path.parent}, expected one to write to")
    if path.exists() and not path.is_file():
        raise ArgumentError(f"--json: {path}: not a file, expected the name of one")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ArgumentError(f"--json: {path}: the folder {path.parent} cannot be written to")


def mixes_of(text: str, folder: Path) -> list[str]:
    """Names of mixes joined by commas, each once; `all` is every pod list in the folder.

    Raises:
        TraceError: all were asked for and there is none.
    """
    mixes: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if name == "all":
            mixes += sorted(path.stem.removeprefix("openb_pod_list_") for path in folder.glob("openb_pod_list_*.csv"))
            if not mixes:
                raise TraceError(f"{folder}: no pod lists, expected files named openb_pod_list_<mix>.csv")
        else:
            mixes.append(name)
    return list(dict.fromkeys(mixes))


@quiet_on_closed_pipe
def main() -> None:
    """Entry of `python -m training.benchmarks.openb`."""
    arguments = parse_arguments()
    policies, seeds = arguments.policy, arguments.seeds
    console = Console() if sys.stdout.isatty() else Console(width=120)
    try:
        if arguments.json:
            check_output(arguments.json)
        folder = find_traces(arguments.traces)
        if folder is None:
            raise TraceError("no openb trace was found: name its folder by --traces (the README says where to get it)")
        mixes: dict[str, Mix] = {}
        for name in mixes_of(arguments.mix, folder):
            mixes[name] = read_mix(folder, name)
            check_resources(mixes[name], policies)
            if missing := set(seeds) - set(mixes[name].arrivals):
                known = sorted(mixes[name].arrivals)
                raise TraceError(f"{name} has no arrivals for seed {min(missing)}, only for {known}")
        published = read_published(folder)
        runs: list[Run] = []
        first = next(iter(mixes))
        with console.status("compiling"):
            warm_up(mixes[first], first, policies)
        with track(console, "playing", len(mixes) * len(policies) * len(seeds)) as tracker:
            for name, mix in mixes.items():
                for policy in policies:
                    for seed in seeds:
                        label = policy if isinstance(policy, str) else policy.name
                        tracker.update(len(runs), f"{label} on {name}")
                        runs.append(play_run(mix, name, policy, seed))
            tracker.update(len(runs))
    except (ArgumentError, PolicyError, TraceError) as error:
        print(f"openb: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("openb: interrupted, nothing was written", file=sys.stderr)
        sys.exit(130)
    console.print(table_of(runs, published))
    if arguments.json:
        try:
            write_whole({arguments.json: json.dumps([asdict(run) for run in runs]) + "\n"})
        except OSError as error:
            print(f"openb: --json: {arguments.json}: cannot be written: {error.strerror}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
