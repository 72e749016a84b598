"""A decision log as an extender would have written it, of pods that a simulated cluster was asked to place."""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from extender.telemetry.decision_records import BoundRecord, DecisionRecord, EndedRecord
from training.cycle.recording import nodes_csv
from training.export import export_policy
from training.simulator.scheduling import SchedulerArguments, play
from training.value_network import ValueNetwork
from training.workloads.arrivals import ArrivalProcess
from training.workloads.base import Population, draw_workload, typical_pods
from training.workloads.generated import GeneratorArguments, generate_population

MIDNIGHT = 1_795_219_200.0  # 2026-11-21
USUAL = GeneratorArguments(
    nodes=10, pods=2000, templates=30, gpu_node_share=1.0, gpu_models=["A10"], duration_sigma=1.0,
    model_selector_share=0.0, pool_selector_share=0.0, pools=1,
)  # fmt: skip
SHIFTED = replace(USUAL, shared_gpu_milli=[100, 200], shared_gpu_share=0.9, duration_median_seconds=2400.0)
"""Other sizes of shared GPUs, more of them, and pods that run four times as long."""


@dataclass(frozen=True)
class Recording:
    """Files of a cycle.

    Attributes:
        log: the decision log.
        nodes: beside it.
    """

    log: Path
    nodes: Path


def population(arguments: GeneratorArguments = USUAL) -> Population:
    return generate_population(arguments)


def write(
    folder: Path, arguments: GeneratorArguments = USUAL, *, pods: int = 500, load: float = 0.9, seed: int = 0
) -> Recording:
    """Play pods in the simulator by best-fit, and write down what an extender would have."""
    workload = draw_workload(
        population(arguments),
        nodes=arguments.nodes,
        pods=pods,
        load=load,
        process=ArrivalProcess.POISSON,
        shortest_seconds=30.0,
        longest_seconds=14_400.0,
        generator=np.random.default_rng(seed),
    )
    outcome = play(workload, "best-fit", SchedulerArguments(), seed)
    records: list[tuple[float, DecisionRecord | BoundRecord | EndedRecord]] = []
    for pod, shape in enumerate(workload.shape.tolist()):
        uid, came, node = f"uid-{pod}", MIDNIGHT + float(workload.arrival[pod]), f"node-{int(outcome.node[pod]):05d}"
        begun, ended = MIDNIGHT + float(outcome.started[pod]), MIDNIGHT + float(outcome.finished[pod])
        decision = DecisionRecord(
            time=came, namespace="default", pod=uid, uid=uid, pod_class="", features="",
            request=workload.shapes.request[shape].tolist(), gpu_count=int(workload.shapes.gpu_count[shape]),
            gpu_milli=int(workload.shapes.gpu_milli[shape]), priority=int(workload.priority[pod]), expected_seconds=0.0,
            candidates=2, chosen=node, propensity=1.0, rung="policy", scores=[(node, 1.0)], policy="best-fit",
            latency=0.001,
        )  # fmt: skip
        records += [
            (came, decision),
            (begun, BoundRecord(begun, uid, node, begun - came)),
            (ended, EndedRecord(ended, uid, node, ended - begun)),
        ]
    folder.mkdir(parents=True, exist_ok=True)
    log, nodes = folder / "decisions.jsonl", folder / "nodes.csv"
    log.write_bytes(
        b"".join(msgspec.json.encode(record) + b"\n" for _, record in sorted(records, key=lambda each: each[0]))
    )
    nodes.write_bytes(nodes_csv(workload))
    return Recording(log, nodes)


def worse_policy(folder: Path) -> bytes:
    """A policy file that spreads where a good one packs."""
    network = ValueNetwork(degrees=1, adapts=False, goal="waiting")
    for values in network.parameters():
        values.data *= -1.0  # spreads where the other packs
    known = population()
    export_policy(
        network,
        folder / "worse.onnx",
        resources=known.resources,
        typical=typical_pods(known.shapes, known.shape),
        models=known.models,
        algorithm="es",
        config_digest="0" * 64,
        workload="the opposite",
    )
    return (folder / "worse.onnx").read_bytes()
