"""A small evaluation for tests."""

import numpy as np

from extender.policies.heuristics import HEURISTICS
from training.evaluation.runner import Contender, Evaluation, EvaluationArguments, evaluate, rules
from training.workloads.selection import WorkloadArguments
from training.workloads.synthetic import generate_population

BASELINES = ["kube-scheduler-default", "most-allocated"]
SYNTHETIC = WorkloadArguments(source="synthetic")
POPULATION = generate_population(np.random.default_rng(0))


def small_evaluation(processes: int = 1, seeds: int = 3, launcher: str = "processes") -> Evaluation:
    """A policy that is asked decision by decision, against two rules, on twelve nodes at two loads."""
    arguments = EvaluationArguments(nodes=12, pods=300, loads=[0.7, 0.95], seeds=seeds, processes=processes)
    trained = Contender("trained", HEURISTICS["best-fit"])
    return evaluate([trained], rules(BASELINES), arguments, POPULATION, SYNTHETIC, launcher=launcher)
