"""How fast the simulator is: episodes of openb, queueing episodes, and how both grow.

    python -m benchmarks.simulator
    python -m benchmarks.simulator --traces DIR --repeats 11

A comparison is one of the same run: the whole-array implementation places the same pods, and what it chooses is
compared too. Times are CPU seconds of one core, which other work on the machine disturbs least; only the comparison of
processes (see `processes`) and that of compilation go by the clock. The parts of openb are left out where the trace is
not found; queueing episodes then come from the built-in generator. Policies have weights at random: their speed hardly
depends on what they have learned.

Writes the table as JSON too (--results). Exit codes: 0 done; 2 the arguments or the trace were refused; 130
interrupted.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks.processes import PROCESSES, RULE, speed_ups
from benchmarks.results import FOLDER, Result, publish, unless_interrupted
from benchmarks.whole_array import play_fgd
from extender.closed_pipe import quiet_on_closed_pipe
from extender.features import feature_names, placement_features
from extender.fragmentation import fragmentation_tables
from extender.placement import Candidates, NodeArrays, PodRequest
from extender.policies.base import ScoreArray
from extender.policies.onnx import OnnxPolicy
from training.arguments import parse_count
from training.benchmarks.openb import Mix, read_mix
from training.export import export_policy
from training.networks import NetworkArguments, ScoreNetwork
from training.progress import Tracker, track
from training.simulator.scheduling import RANDOM_TIES, SchedulerArguments, play_policy, play_rule, prepare
from training.simulator.scoring import PUBLISHED_FGD, RULE_NUMBERS, empty_cache
from training.simulator.state import PLACED
from training.workloads.base import IntArray, Population, Workload
from training.workloads.openb import TraceError, find_traces
from training.workloads.selection import WorkloadArguments, draw, load_population

SEED = 42  # of the published run that is played
QUEUEING_NODES, QUEUEING_PODS, QUEUEING_LOADS = 64, 100_000, (0.5, 0.8)
RULES_THAT_GROW = ("most-allocated", "fgd")
NODES = (64, 256, 1024, 4096, 16384)
PODS = (10_000, 100_000, 1_000_000)
PODS_AS_NODES_GROW = 20_000
REPEATS = 11
FEW_REPEATS = 3

# In a process of its own: the first play of a rule, with compiled code from the folder of the environment or without.
FIRST_PLAY = """
import time
import numpy as np
from training.simulator.scheduling import RANDOM_TIES, SchedulerArguments, play_rule, prepare
from training.simulator.scoring import RULE_NUMBERS, empty_cache
from training.workloads.selection import WorkloadArguments, draw, load_population
arguments = WorkloadArguments(source="synthetic")
drawn = draw(load_population(arguments, 3), arguments, nodes=4, pods=20, load=0.5, generator=np.random.default_rng(0))
episode, cache = prepare(drawn, SchedulerArguments()), empty_cache(len(drawn.shapes), 4)
started = time.perf_counter()
play_rule(episode, RULE_NUMBERS["fgd"], cache, drawn.typical, RANDOM_TIES, np.random.default_rng(0))
print(time.perf_counter() - started)
"""


@dataclass
class Measurements:
    """What has been measured so far, and the bar that shows it."""

    tracker: Tracker
    results: list[Result] = field(default_factory=list)
    steps: int = 0

    def add(self, case: str, metric: str, value: float, unit: str, baseline: float | None = None) -> None:
        """Keep a number."""
        self.results.append(Result(case, metric, value, unit, baseline))

    def step(self, note: str) -> None:
        """One more step begins."""
        self.tracker.update(self.steps, note)
        self.steps += 1


class AskedOneByOne:
    """A policy file whose network ONNX Runtime evaluates, as the extender does."""

    def __init__(self, policy: OnnxPolicy, workload: Workload) -> None:
        self.name = policy.name
        self._policy = policy
        self._tables = fragmentation_tables(workload.typical)

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        """Score the candidates; (K,) float32."""
        return self._policy.score_features(placement_features(nodes, pod, candidates, self._tables))


def time_rule(workload: Workload, number: int, ties: IntArray) -> tuple[float, int, IntArray]:
    """CPU seconds, pods placed and each pod's node of one episode with a rule; preparing the arrays does not count."""
    episode = prepare(workload, SchedulerArguments())
    started = time.process_time()
    cache = empty_cache(len(workload.shapes), len(workload.allocatable))
    play_rule(episode, number, cache, workload.typical, ties, np.random.default_rng(0))
    return time.process_time() - started, int(episode.counters[PLACED]), episode.pods.node


def time_policy(workload: Workload, policy: OnnxPolicy | AskedOneByOne) -> tuple[float, int]:
    """CPU seconds and pods placed of one episode with a policy."""
    episode = prepare(workload, SchedulerArguments())
    started = time.process_time()
    play_policy(episode, policy, workload.typical, np.random.default_rng(0))
    return time.process_time() - started, int(episode.counters[PLACED])


def median_of(play: Callable[[], float], repeats: int) -> float:
    """The median of so many, after one that does not count: it may compile."""
    play()
    return float(np.median([play() for _ in range(repeats)]))


def random_policy(workload: Workload, folder: Path, *, pooled_context: bool) -> OnnxPolicy:
    """A policy file of the usual size with weights at random."""
    torch.manual_seed(0)
    network = ScoreNetwork(
        len(feature_names(workload.resources)), NetworkArguments(hidden=32, pooled_context=pooled_context)
    )
    torch.nn.init.orthogonal_(network.score.weight)
    return export_policy(
        network,
        folder / ("with-context.onnx" if pooled_context else "without-context.onnx"),
        resources=workload.resources,
        typical=workload.typical,
        models=workload.models,
        algorithm="none",
        config_digest="",
        workload="",
    )


def measure_openb(mix: Mix, repeats: int, folder: Path, *, compare: bool, into: Measurements) -> None:
    """Published episodes: FGD against whole arrays, policies against FGD."""
    workload, ties = mix.workload(SEED), mix.tiebreak[SEED]
    case = f"openb default, {len(workload.allocatable):,} nodes, {len(workload):,} pods, FGD"
    into.step("openb, FGD")
    seconds = median_of(lambda: time_rule(workload, PUBLISHED_FGD, ties)[0], repeats)
    plain = median_of(lambda: time_rule(workload, RULE_NUMBERS["fgd"], ties)[0], repeats)
    whole = None
    if compare:
        first, begun = into.steps, time.process_time()
        chosen = play_fgd(
            workload, ties, lambda done: into.tracker.update(first, f"whole-array FGD, {done:,} of {len(workload):,}")
        )
        whole = time.process_time() - begun
        for name, number in (("the rule", RULE_NUMBERS["fgd"]), ("the published one", PUBLISHED_FGD)):
            alike = float(np.mean(chosen == time_rule(workload, number, ties)[2]))
            into.add(case, f"pods that whole arrays and {name} place alike", 100.0 * alike, "%")
    into.add(case, "time of an episode", seconds, "s", whole)
    into.add(case, "speed", 1.0 / seconds, "episodes/s", 1.0 / whole if whole else None)
    into.add(case, "time without the published rounding", plain, "s", whole)
    for pooled_context in (True, False):
        into.step("openb, policies")
        policy = random_policy(workload, folder, pooled_context=pooled_context)
        time_policy(workload, policy)
        # In turns, so that both meet the same disturbances.
        pairs = [
            (time_policy(workload, policy)[0], time_rule(workload, PUBLISHED_FGD, ties)[0]) for _ in range(repeats)
        ]
        ours, rule = np.median(pairs, axis=0).tolist()
        name = f"openb default, policy {'with' if pooled_context else 'without'} context, 32 wide"
        into.add(name, "time of an episode, against FGD's", ours, "s", rule)


def queueing(population: Population, nodes: int, pods: int, load: float) -> Workload:
    """Pods that come at random, wait, run for at most two hours and leave."""
    generator = np.random.default_rng(1)
    return draw(population, WorkloadArguments(), nodes=nodes, pods=pods, load=load, generator=generator)


def placements_a_second(workload: Workload, rule: str, repeats: int) -> float:
    """The median of some episodes."""

    def play() -> float:
        seconds, placed, _ = time_rule(workload, RULE_NUMBERS[rule], RANDOM_TIES)
        return placed / seconds

    return median_of(play, repeats)


def measure_queueing(population: Population, folder: Path, into: Measurements) -> None:
    """Queueing episodes on one core, with every rule and with policies."""
    for load in QUEUEING_LOADS:
        workload = queueing(population, QUEUEING_NODES, QUEUEING_PODS, load)
        case = f"queueing, {QUEUEING_NODES} nodes, {QUEUEING_PODS:,} pods, load {load}"
        for rule in RULE_NUMBERS:
            into.step(f"load {load}, {rule}")
            into.add(case, rule, placements_a_second(workload, rule, FEW_REPEATS), "placements/s")
        few = queueing(population, QUEUEING_NODES, QUEUEING_PODS // 50, load)
        for pooled_context in (True, False):
            into.step(f"load {load}, policies")
            policy = random_policy(workload, folder, pooled_context=pooled_context)
            asked, placed = time_policy(few, AskedOneByOne(policy, workload))

            def play(workload: Workload = workload, policy: OnnxPolicy = policy) -> float:
                seconds, placed = time_policy(workload, policy)
                return placed / seconds

            name = f"policy {'with' if pooled_context else 'without'} context, against ONNX Runtime"
            into.add(case, name, median_of(play, FEW_REPEATS), "placements/s", placed / asked)


def measure_growth(population: Population, into: Measurements) -> None:
    """The same with more nodes and with more pods, beside the smallest."""
    for rule in RULES_THAT_GROW:
        smallest = None
        for nodes in NODES:
            into.step(f"{nodes:,} nodes, {rule}")
            workload = queueing(population, nodes, PODS_AS_NODES_GROW, 0.8)
            rate = placements_a_second(workload, rule, FEW_REPEATS)
            smallest = smallest or rate
            into.add(f"growth with nodes, {rule}, load 0.8", f"{nodes:,} nodes", rate, "placements/s", smallest)
        smallest = None
        for pods in PODS:
            into.step(f"{pods:,} pods, {rule}")
            repeats = FEW_REPEATS if pods < PODS[-1] else 1
            rate = placements_a_second(queueing(population, QUEUEING_NODES, pods, 0.8), rule, repeats)
            smallest = smallest or rate
            into.add(f"growth with pods, {rule}, load 0.8", f"{pods:,} pods", rate, "placements/s", smallest)


def measure_processes(population: Population, into: Measurements) -> None:
    """Two processes against one, beside what the machine itself gives."""
    workload = queueing(population, QUEUEING_NODES, QUEUEING_PODS, 0.8)
    found = speed_ups(workload, into.step)
    ours, ceiling = found["episodes"], found["arithmetic"]
    case = f"{PROCESSES} processes, {RULE}, load 0.8"
    together = ours.alone * ours.by_the_clock
    into.add(case, "both against one", together * len(workload), "placements/s", ours.alone * len(workload))
    for kind, speed_up in found.items():
        into.add(
            case, f"{kind}, by the clock, against arithmetic", speed_up.by_the_clock, "times", ceiling.by_the_clock
        )
        into.add(case, f"{kind}, by CPU seconds, against arithmetic", speed_up.by_cpu, "times", ceiling.by_cpu)
        into.add(case, f"{kind}, the median trial against the best", speed_up.median_to_best, "times")


def measure_compilation(into: Measurements) -> None:
    """What the first episode takes: compiled anew, and with the compiled code from the disk."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = []
        for note in ("compiling", "loading compiled code"):
            into.step(note)
            command = [sys.executable, "-c", f"import os; os.environ['STOWAGE_CACHE'] = {folder!r}\n{FIRST_PLAY}"]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds.append(float(run.stdout))
    into.add("first episode of a process, FGD", "compiled anew", seconds[0], "s")
    into.add("first episode of a process, FGD", "compiled code from the disk", seconds[1], "s", seconds[0])


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--traces", help="folder with the openb files; else STOWAGE_TRACES, else ../shared/traces")
    parser.add_argument(
        "--repeats",
        type=parse_count,
        default=REPEATS,
        help="episodes of openb of which the median counts (%(default)s)",
    )
    parser.add_argument(
        "--no-whole-array",
        action="store_true",
        help="leave out the comparison with whole arrays, half a minute or more",
    )
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the results (default: %(default)s)")
    return parser


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return argument_parser().parse_args(arguments)


@quiet_on_closed_pipe
def main() -> None:
    """Entry of `python -m benchmarks.simulator`."""
    arguments = parse_arguments()
    console = Console() if sys.stdout.isatty() else Console(width=140)
    steps = 3 + len(QUEUEING_LOADS) * (len(RULE_NUMBERS) + 2) + len(RULES_THAT_GROW) * len(NODES + PODS) + 6
    torch.set_num_threads(1)
    try:
        with unless_interrupted("simulator"):
            traces = find_traces(arguments.traces)
            population = load_population(WorkloadArguments(traces=arguments.traces), 3)
            with (
                tempfile.TemporaryDirectory() as folder,
                track(console, "measuring", steps if traces else steps - 3) as tracker,
            ):
                measured = Measurements(tracker)
                measure_compilation(measured)
                if traces is not None:
                    mix, compare = read_mix(traces, "default"), not arguments.no_whole_array
                    measure_openb(mix, arguments.repeats, Path(folder), compare=compare, into=measured)
                measure_queueing(population, Path(folder), measured)
                measure_growth(population, measured)
                measure_processes(population, measured)
                tracker.update(measured.steps)
    except TraceError as error:
        print(f"simulator: {error}", file=sys.stderr)
        sys.exit(2)
    title = f"The simulator's speed; queueing episodes from {population.name}"
    path = publish("simulator", title, measured.results, console, arguments.results)
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
