"""The end of a run: the exported policy is judged on held-back seeds, by what the run's goal asks for."""

import json
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from extender.policies.onnx import OnnxPolicy, load_policy
from training.ask import Answer, ask_extender
from training.config import Config
from training.evaluation.curve import CurvePoint
from training.evaluation.filling import evaluate_filling
from training.evaluation.report import TERMINAL_METRICS, html_report, json_report, terminal_tables, write_whole
from training.evaluation.runner import Contender, Evaluation, evaluate, held_back_workload, rules
from training.export import add_evaluation
from training.progress import track
from training.workloads.base import Population

EVALUATION_FILE, REPORT_FILE = "evaluation.json", "report.html"


def judge(
    config: Config,
    population: Population,
    policy_file: Path,
    curve: list[CurvePoint],
    facts: Mapping[str, str],
    console: Console,
) -> tuple[OnnxPolicy, dict[str, float]]:
    """Judge a policy, and write down how it did.

    Args:
        config: of the run.
        population: what episodes are drawn from.
        policy_file: receives the evaluation in its metadata.
        curve: the learning curve, for the report.
        facts: what the report should say of the training, by name.
        console: where progress and tables go.

    Returns:
        the policy with the evaluation in its file, and the figures by which runs are told apart, by name.
    """
    if config.goal == "packing":
        return _by_filling(config, population, policy_file, console)
    return _by_waiting(config, population, policy_file, curve, facts, console)


def _by_waiting(
    config: Config,
    population: Population,
    policy_file: Path,
    curve: list[CurvePoint],
    facts: Mapping[str, str],
    console: Console,
) -> tuple[OnnxPolicy, dict[str, float]]:
    players = 1 + len(config.evaluation.baselines)
    episodes = len(config.evaluation.loads) * config.evaluation.seeds * players
    name = config.algorithm.name
    with track(console, "evaluating", episodes) as tracker:
        evaluation = evaluate(
            [Contender(name, policy_file)],
            rules(config.evaluation.baselines),
            config.evaluation,
            population,
            config.workload,
            config.scheduler,
            report=lambda done, _total, what: tracker.update(done, what),
            launcher=config.training.launcher,
        )
    policy = add_evaluation(policy_file, evaluation.to_json()["policies"])
    report = policy_file.with_name(REPORT_FILE)
    facts = {**facts, "Policy file": f"{policy_file}, SHA-256 {policy.digest}", "Configuration": config.digest()}
    write_whole(
        {
            policy_file.with_name(EVALUATION_FILE): json_report(evaluation),
            report: html_report(config.run_name, evaluation, facts, curve),
        }
    )
    for table in terminal_tables(evaluation):
        console.print(table)
    console.print(f"report: {report}", highlight=False)
    return policy, _figures(evaluation, name)


def _figures(evaluation: Evaluation, policy: str) -> dict[str, float]:
    return {
        f"evaluation/{metric}_at_{load:g}": evaluation.mean(policy, metric, load)
        for metric in TERMINAL_METRICS
        if metric in evaluation.metrics
        for load in evaluation.loads
    }


def _by_filling(
    config: Config, population: Population, policy_file: Path, console: Console
) -> tuple[OnnxPolicy, dict[str, float]]:
    arguments, name = config.evaluation, config.algorithm.name
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rules = [*dict.fromkeys(["fgd", "best-fit", *arguments.baselines])]
    nodes = len(population.devices)  # as many as the workload has
    with track(console, "evaluating", len(seeds) * (1 + len(rules))) as tracker:
        judged = {name: load_policy(policy_file)}
        evaluation = evaluate_filling(judged, rules, population, nodes, seeds, tracker.update)
    console.print(evaluation.table())
    found = evaluation.to_json()
    write_whole({policy_file.with_name(EVALUATION_FILE): json.dumps(found, indent=1) + "\n"})
    figures = {f"evaluation/{metric}": value for metric, value in found["policies"][name].items()}
    return add_evaluation(policy_file, found["policies"]), figures


def ask(config: Config, population: Population, policy_file: Path, policy: OnnxPolicy, console: Console) -> None:
    """Start the extender with the policy file, ask it about a pod of a held-back workload, and show its ranking."""
    evaluation = config.evaluation
    workload = held_back_workload(population, evaluation, config.workload, evaluation.loads[0], evaluation.first_seed)
    _show(ask_extender(policy_file, policy, workload), console)


def _show(answer: Answer, console: Console) -> None:
    wants = ", ".join(f"{name} {amount}" for name, amount in answer.requests.items())
    console.print(
        f"asked the extender about {answer.pod} ({wants}) on {answer.candidates} feasible nodes; it ranked:",
        highlight=False,
        soft_wrap=True,
    )
    for host, score in answer.ranking:
        console.print(f"  {score:>2}  {host}", highlight=False)
