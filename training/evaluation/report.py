"""What people look at: tables for the terminal and in Markdown, and a page with plots that needs nothing but itself."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.table import Table

from training.evaluation.curve import CurvePoint
from training.evaluation.metrics import Metric
from training.evaluation.runner import Evaluation, title
from training.evaluation.statistics import Comparison
from training.simulator.scheduling import SchedulerArguments

HEADLINE = "mean_wait_seconds"
COMPARED = (
    HEADLINE,
    "cvar95_wait_seconds",
    "mean_wait_several_devices_seconds",
    "mean_slowdown",
    "gpu_allocation",
    "cost",
    "violations",
)
"""What the page compares; evaluation.json compares everything."""
TERMINAL_METRICS = (
    HEADLINE,
    "p99_wait_seconds",
    "mean_wait_several_devices_seconds",
    "gpu_allocation",
    "violations",
    "unfinished",
)
NOTHING = "none"
ENVIRONMENT = Environment(
    loader=PackageLoader("training.evaluation", "templates"),
    autoescape=lambda name: bool(name) and ".html" in str(name),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Appendix(NamedTuple):
    """A further table of a report.

    Attributes:
        title: its heading.
        note: what the reader should know, a paragraph.
        headings: of its columns; the first is text.
        rows: its cells.
    """

    title: str
    note: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def format_metric(metric: Metric, value: float) -> str:
    """A metric's mean as a table shows it."""
    if math.isnan(value):
        return NOTHING
    if metric.unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"


def format_comparison(entry: Comparison, metric: Metric) -> str:
    """A difference with its interval: of shares in points, else relative, else (to 0) in the metric's unit."""
    if metric.unit == "%":
        values = (100 * entry.difference, 100 * entry.difference_low, 100 * entry.difference_high)
        unit, form = " points", "+.2f"
    elif not math.isnan(entry.low):
        values = (100 * entry.relative_difference, 100 * entry.low, 100 * entry.high)
        unit, form = " %", "+.1f"
    else:
        values = (entry.difference, entry.difference_low, entry.difference_high)
        unit, form = f" {metric.unit}".rstrip(), "+,.2f"
    difference, low, high = (f"{value:{form}}" for value in values)
    if math.isnan(values[0]):
        return NOTHING
    return f"{difference}{unit}, no interval" if math.isnan(values[1]) else f"{difference}{unit} [{low}, {high}]"


def format_p_value(value: float) -> str:
    """A p value as a table shows it."""
    return NOTHING if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_probability(entry: Comparison) -> str:
    """A probability of improvement with its interval."""
    if math.isnan(entry.probability_of_improvement):
        return NOTHING
    return f"{entry.probability_of_improvement:.2f} [{entry.probability_low:.2f}, {entry.probability_high:.2f}]"


def pair_name(evaluation: Evaluation, entry: Comparison) -> str:
    """Which two are compared, as short as it is clear in a table of this evaluation's comparisons."""
    if len({other.baseline for other in evaluation.comparisons}) == 1:
        return title(entry.policy)
    if len({other.policy for other in evaluation.comparisons}) == 1:
        return f"against {title(entry.baseline)}"
    return f"{title(entry.policy)} against {title(entry.baseline)}"


def pairs_title(evaluation: Evaluation) -> str:
    """What is compared with what, for the heading of the comparisons."""
    policies, baselines = (
        list(dict.fromkeys(title(getattr(entry, side)) for entry in evaluation.comparisons))
        for side in ("policy", "baseline")
    )
    ours = policies[0] if len(policies) == 1 else "Every policy"
    theirs = baselines[0] if len(baselines) == 1 else "each baseline"
    return f"{ours} against {theirs}"


def comparisons_of(evaluation: Evaluation, metric: str, load: float | None = None) -> list[Comparison]:
    """The comparisons in one metric, at one load or at all, in the order of the evaluation."""
    return [
        entry for entry in evaluation.comparisons if entry.metric == metric and (load is None or entry.load == load)
    ]


def holm_family(evaluation: Evaluation) -> str:
    """Over which tests p (Holm) of this evaluation's tables is corrected, in a sentence."""
    pairs = len({(entry.policy, entry.baseline) for entry in evaluation.comparisons})
    loads = len(evaluation.loads)
    return (
        "p (Holm) is corrected for the tests of one metric at all loads and between all compared pairs of policies "
        f"({_count(loads, 'load')} x {_count(pairs, 'pair')} = {_count(loads * pairs, 'test')} for each metric, "
        "less those that give no p), not across metrics."
    )


def terminal_tables(evaluation: Evaluation) -> list[Table]:
    """What the policies came to, a row per load and policy; and how their mean waits differ."""
    values = Table(title=f"{evaluation.workload}, means of {_count(len(evaluation.seeds), evaluation.paired_by)}")
    metrics = [evaluation.metrics[key] for key in TERMINAL_METRICS if key in evaluation.metrics]
    for heading in ("load", "policy", *(_heading(metric) for metric in metrics)):
        values.add_column(heading, justify="left" if heading == "policy" else "right")
    for load in evaluation.loads:
        for policy in evaluation.policies:
            values.add_row(
                f"{load:g}",
                title(policy),
                *(format_metric(metric, evaluation.mean(policy, metric.key, load)) for metric in metrics),
                end_section=policy == evaluation.policies[-1],
            )
    if not evaluation.comparisons:
        return [values]
    differences = Table(
        title=f"{pairs_title(evaluation)}: difference in mean wait, paired by {evaluation.paired_by}",
        caption=holm_family(evaluation),
    )
    for heading in ("load", "policy", "difference [95 %]", "p (Holm)", "P(better) [95 %]"):
        differences.add_column(heading, justify="left" if heading == "policy" else "right")
    for load in evaluation.loads:
        entries = comparisons_of(evaluation, HEADLINE, load)
        for entry in entries:
            differences.add_row(
                f"{load:g}",
                pair_name(evaluation, entry),
                format_comparison(entry, evaluation.metrics[HEADLINE]),
                format_p_value(entry.p_value_holm),
                format_probability(entry),
                end_section=entry is entries[-1],
            )
    return [values, differences]


def json_report(evaluation: Evaluation, further: Mapping[str, Any] | None = None) -> str:
    """The text of evaluation.json, with further keys where there are any."""
    return json.dumps({**evaluation.to_json(), **(further or {})}, indent=1, allow_nan=False) + "\n"


def markdown_report(
    name: str, evaluation: Evaluation, facts: Mapping[str, str], appendices: Sequence[Appendix] = ()
) -> str:
    """The evaluation as Markdown: a table of all metrics and one of comparisons per load, and the definitions.

    Args:
        name: of the run.
        evaluation: results to show.
        facts: what the reader should know of the run, by name.
        appendices: further tables.
    """
    parts = [
        f"# {name}",
        "\n".join(f"- **{fact}**: {value}" for fact, value in {**_facts(evaluation), **facts}.items()),
    ]
    for load in evaluation.loads:
        rows = [
            [
                _heading(metric),
                *(format_metric(metric, evaluation.mean(policy, metric.key, load)) for policy in evaluation.policies),
            ]
            for metric in evaluation.metrics.values()
        ]
        parts += [
            f"## Load {load:g}",
            f"### Means over the {evaluation.paired_by}s",
            markdown_table(["metric", *map(title, evaluation.policies)], rows),
        ]
        if evaluation.comparisons:
            rows = [
                [
                    evaluation.metrics[entry.metric].label,
                    pair_name(evaluation, entry),
                    format_comparison(entry, evaluation.metrics[entry.metric]),
                    format_p_value(entry.p_value_holm),
                    format_probability(entry),
                    format_metric(evaluation.metrics[entry.metric], entry.policy_interquartile_mean),
                    format_metric(evaluation.metrics[entry.metric], entry.baseline_interquartile_mean),
                ]
                for metric in _compared(evaluation)
                for entry in comparisons_of(evaluation, metric, load)
            ]
            headings = [
                "metric",
                "policy",
                "difference [95 %]",
                "p (Holm)",
                "P(better) [95 %]",
                "IQM",
                "IQM of the other",
            ]
            parts += [
                f"### {pairs_title(evaluation)}",
                markdown_table(headings, rows, texts=2),
                holm_family(evaluation),
            ]
    for appendix in appendices:
        parts += [f"## {appendix.title}", appendix.note, markdown_table(appendix.headings, appendix.rows)]
    parts += ["## What the numbers mean", how_to_read(evaluation), definitions(evaluation.metrics.values())]
    return "\n\n".join(parts) + "\n"


def how_to_read(evaluation: Evaluation) -> str:
    """What intervals, p values and the like mean, in words."""
    it = evaluation.paired_by
    return (
        f"Every policy meets the same pods, so differences are taken within a {it}. Intervals are 95 % bootstrap "
        "intervals of the difference of the means; one that excludes 0 is evidence. p (Holm) is the signed-rank test's "
        "p value, corrected for all comparisons in the same metric, those at the other loads included, but not for the "
        "number of metrics: who looks at several of them finds some difference by chance more often. P(better) is the "
        f"probability that the policy is the better one on a further {it}. IQM is the interquartile mean, the mean of "
        f"the middle half of the {it}s."
    )


def definitions(metrics: Iterable[Metric]) -> str:
    """The metrics as a table in Markdown."""
    rows = [[f"`{metric.key}`", metric.label, metric.unit, metric.better, metric.definition] for metric in metrics]
    return markdown_table(["key", "metric", "unit", "better", "definition"], rows, texts=5)


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A table in Markdown, its first columns texts and the others numbers.

    Example:
        >>> print(markdown_table(["policy", "wait"], [["fgd", "1.0"]]))
        | policy | wait |
        | --- | ---: |
        | fgd | 1.0 |
    """
    marks = ["---" if index < texts else "---:" for index in range(len(headings))]
    lines = [headings, marks, *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def html_report(
    name: str,
    evaluation: Evaluation,
    facts: Mapping[str, str],
    curve: Sequence[CurvePoint] = (),
    appendices: Sequence[Appendix] = (),
    pictures: Mapping[str, str] | None = None,
) -> str:
    """The evaluation as a page with tables and plots.

    Args:
        name: of the run.
        evaluation: results to show.
        facts: what the reader should know of the run, by name.
        curve: the learning curve; empty for policies that were not trained here.
        appendices: further tables.
        pictures: further plots, SVG by heading; they come first.
    """
    from training.evaluation import plots  # here, as matplotlib takes a second that a refused command needs not wait

    has_gpus = not all(math.isnan(evaluation.mean(policy, "gpu_allocation")) for policy in evaluation.policies)
    return ENVIRONMENT.get_template("report.html.j2").render(
        name=name,
        facts={**_facts(evaluation), **facts},
        how_to_read=how_to_read(evaluation),
        evaluation=evaluation,
        metrics=list(evaluation.metrics.values()),
        compared=_compared(evaluation),
        comparisons_of=comparisons_of,
        pair_name=pair_name,
        pairs_title=pairs_title,
        holm_family=holm_family,
        title=title,
        heading=_heading,
        format_metric=format_metric,
        format_comparison=format_comparison,
        format_p_value=format_p_value,
        format_probability=format_probability,
        appendices=appendices,
        pictures={heading: Markup(picture) for heading, picture in (pictures or {}).items()},
        learning_curve=Markup(plots.learning_curve(curve)) if curve else None,
        wait_by_load=Markup(plots.wait_by_load(evaluation)),
        wait_distribution={load: Markup(plots.wait_distribution(evaluation, load)) for load in evaluation.loads},
        allocation={load: Markup(plots.allocation_over_time(evaluation, load)) for load in evaluation.loads}
        if has_gpus
        else {},
    )


def write_whole(contents: Mapping[Path, str]) -> None:
    """Write files that belong together; each appears whole, and none before all could be written.

    Raises:
        OSError: one could not be written.
    """
    partials = {path: path.with_name(f"{path.name}.partial") for path in contents}
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partials[path].write_text(text, encoding="utf-8")
        for path, partial in partials.items():
            partial.replace(path)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _heading(metric: Metric) -> str:
    said = metric.unit in ("", "%") or metric.unit in metric.label.split()
    return metric.label if said else f"{metric.label}, {metric.unit}"


def _compared(evaluation: Evaluation) -> list[str]:
    return [key for key in COMPARED if key in evaluation.metrics]


def _facts(evaluation: Evaluation) -> dict[str, str]:
    settings = evaluation.settings
    seeds = evaluation.seeds
    usual = asdict(SchedulerArguments())
    changed = {name: value for name, value in settings["scheduler"].items() if value != usual[name]}
    return {
        "Workload": evaluation.workload,
        "Judged on": f"{len(seeds)} held-back seeds ({seeds[0]} to {seeds[-1]}) at each load, "
        f"{settings['nodes']:,} nodes, {settings['pods']:,} pods ({settings['workload']['process']} arrivals), "
        f"of which the first {100 * settings['warm_up']:g} % are not counted",
        "Scheduler": ", ".join(f"{name}={value}" for name, value in changed.items())
        or "kube-scheduler's rules as docs/simulator.md has them",
    }
