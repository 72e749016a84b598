"""What people look at: a table for the terminal, and a page with tables and plots that needs nothing but itself."""

import math
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.table import Table

from training.evaluation import plots
from training.evaluation.metrics import METRICS
from training.evaluation.runner import Evaluation
from training.evaluation.statistics import Comparison

TITLES = {"kube-scheduler-default": "LeastAllocated + BalancedAllocation"}
SHARES = {"gpu_allocation"}
HEADLINE = "mean_wait_seconds"


def title(policy: str) -> str:
    """What a table calls a policy."""
    return TITLES.get(policy, policy)


def format_metric(metric: str, value: float) -> str:
    """A metric's mean as a table shows it."""
    if math.isnan(value):
        return "none"
    return f"{100 * value:.1f} %" if metric in SHARES else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def format_comparison(entry: Comparison) -> str:
    """A relative difference with its interval."""
    if math.isnan(entry.low):
        return "no interval"
    return f"{100 * entry.relative_difference:+.1f} % [{100 * entry.low:+.1f}, {100 * entry.high:+.1f}]"


def comparison_of(evaluation: Evaluation, baseline: str, load: float, metric: str = HEADLINE) -> Comparison | None:
    """The comparison of the first candidate with a baseline; None for the candidate itself."""
    for entry in evaluation.comparisons:
        if (entry.baseline, entry.load, entry.metric) == (baseline, load, metric):
            return entry
    return None


def terminal_table(evaluation: Evaluation) -> Table:
    """Mean waits and their differences, a row per load and policy."""
    candidate = evaluation.policies[0]
    table = Table(
        title=f"{candidate} against the rules, {len(evaluation.of(candidate)) // len(evaluation.loads)} seeds"
    )
    for heading in ("load", "policy", "mean wait, s", "several GPUs, s", "GPUs in use", f"{candidate}'s mean wait"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for load in evaluation.loads:
        for policy in evaluation.policies:
            entry = comparison_of(evaluation, policy, load)
            table.add_row(
                str(load),
                title(policy),
                *(
                    format_metric(metric, evaluation.mean(policy, metric, load))
                    for metric in (HEADLINE, "mean_wait_several_devices_seconds", "gpu_allocation")
                ),
                format_comparison(entry) if entry else "",
                end_section=policy == evaluation.policies[-1],
            )
    return table


def write_report(
    path: Path,
    *,
    name: str,
    evaluation: Evaluation,
    curve: Sequence[plots.CurvePoint],
    facts: dict[str, str],
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        name: of the run.
        evaluation: results to show.
        curve: the learning curve; empty for policies that were not trained here.
        facts: what the reader should know of the run, by name.
    """
    environment = Environment(
        loader=PackageLoader("training.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        name=name,
        facts=facts,
        evaluation=evaluation,
        metrics=METRICS,
        title=title,
        format_metric=format_metric,
        format_comparison=format_comparison,
        comparison_of=comparison_of,
        learning_curve=Markup(plots.learning_curve(curve)) if curve else None,
        wait_by_load=Markup(plots.wait_by_load(evaluation)),
        wait_distribution={load: Markup(plots.wait_distribution(evaluation, load)) for load in evaluation.loads},
        allocation={load: Markup(plots.allocation_over_time(evaluation, load)) for load in evaluation.loads},
    )
    partial = path.with_suffix(".partial")
    partial.write_text(page)
    partial.replace(path)
