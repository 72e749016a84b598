import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.training.evaluation.small_evaluations import small_evaluation
from training.evaluation.curve import CurvePoint
from training.evaluation.metrics import catalogue
from training.evaluation.plots import wait_by_load, wait_distribution
from training.evaluation.report import (
    definitions,
    format_comparison,
    format_metric,
    format_p_value,
    holm_family,
    how_to_read,
    html_report,
    markdown_report,
    markdown_table,
    terminal_tables,
    write_whole,
)
from training.evaluation.runner import Evaluation
from training.evaluation.statistics import Comparison

NAN = float("nan")
FACTS = {"Trained with": "<x>"}
METRICS = catalogue()
DOCUMENTATION = Path(__file__).parents[3] / "docs" / "evaluation.md"


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return small_evaluation()


@pytest.fixture(scope="module")
def page(evaluation: Evaluation) -> str:
    curve = [CurvePoint(1000, 1.0, -5.0, 30.0), CurvePoint(2000, 2.0, -3.0, 20.0)]
    return html_report("trial", evaluation, FACTS, curve)


@pytest.fixture(scope="module")
def markdown(evaluation: Evaluation) -> str:
    return markdown_report("trial", evaluation, FACTS)


def comparison(difference: tuple[float, float, float], relative: tuple[float, float, float]) -> Comparison:
    return Comparison(
        "new", "old", "mean_wait_seconds", 0.9, 20, *difference, *relative, 0.01, 0.02, 0.9, 0.7, 0.97, 1.0, 2.0
    )


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    assert "<script" not in page
    assert "src=" not in page
    assert "@import" not in page
    assert not re.search(r'href="(?!#)', page)


def test_the_page_has_a_plot_of_waits_and_of_allocation_per_load_and_two_more(
    page: str, evaluation: Evaluation
) -> None:
    assert page.count("<svg") == 2 * len(evaluation.loads) + 2


def test_every_plot_says_in_words_what_it_shows(page: str) -> None:
    assert re.findall(r'<svg role="img" aria-label="([^"]+)"', page) == [
        "Mean wait by load, with 95 % intervals",
        "Distribution of waits at load 0.7",
        "Allocation of the GPUs over time at load 0.7",
        "Distribution of waits at load 0.95",
        "Allocation of the GPUs over time at load 0.95",
        "Learning curve: mean return by decisions taken",
    ]


def test_the_page_fits_a_phone(page: str) -> None:
    assert '<meta name="viewport" content="width=device-width' in page
    assert page.count('<div class="scroll"><table') == page.count("<table")


def test_the_page_shows_facts_as_text(page: str) -> None:
    assert "&lt;x&gt;" in page


def test_the_page_defines_every_metric_it_shows(page: str) -> None:
    for metric in METRICS.values():
        assert f"<td>{metric.label}</td>" in page


def ticks_of(svg: str, axis: str) -> list[str]:
    """The labels of an axis' ticks, in order."""
    parts = re.split(r'<g id="([xy])tick_\d+">', svg)
    return [
        text.strip()
        for name, part in zip(parts[1::2], parts[2::2], strict=True)
        if name == axis
        for text in re.findall(r"<text[^>]*>([^<]*)</text>", part)[:1]
    ]


def with_waits(evaluation: Evaluation, waits: list[float], mean: float) -> Evaluation:
    """The same evaluation, every episode with these waits and this mean wait."""
    results = [
        replace(result, waits=np.array(waits), metrics={**result.metrics, "mean_wait_seconds": mean})
        for result in evaluation.results
    ]
    return replace(evaluation, results=results)


@pytest.mark.parametrize("mean", [0.0580977, 5.0, 120.0, 54321.0])
def test_mean_waits_stand_on_the_axis_as_plain_numbers(evaluation: Evaluation, mean: float) -> None:
    ticks = ticks_of(wait_by_load(with_waits(evaluation, [mean], mean)), "y")
    assert len(ticks) >= 2
    assert all(re.fullmatch(r"\d{1,3}(,\d{3})*(\.\d{1,3})?", tick) for tick in ticks), ticks


@pytest.mark.parametrize("zeros", [0, 1, 150, 990, 999])
def test_the_distribution_of_waits_has_no_share_above_one(evaluation: Evaluation, zeros: int) -> None:
    waits = [0.0] * zeros + [5000.0] * (1000 - zeros)
    svg = wait_distribution(with_waits(evaluation, waits, 1.0), 0.7)
    shares = [float(tick) for tick in ticks_of(svg, "y")]
    assert len(shares) >= 2
    assert shares == sorted(set(shares))
    assert max(shares) <= 1.0
    assert ticks_of(svg, "x")[:2] == ["1", "10"]


def test_plots_without_a_counted_pod_say_so(evaluation: Evaluation) -> None:
    nothing = with_waits(evaluation, [], NAN)
    for svg in (wait_distribution(nothing, 0.7), wait_by_load(nothing)):
        assert ">no pod was counted before the horizon</text>" in svg


def test_a_policy_without_a_counted_pod_is_left_out_of_the_distribution(evaluation: Evaluation) -> None:
    results = [
        replace(result, waits=np.empty(0)) if result.policy == "trained" else result for result in evaluation.results
    ]
    svg = wait_distribution(replace(evaluation, results=results), 0.7)
    assert ">most-allocated</text>" in svg
    assert ">trained</text>" not in svg


def test_every_table_of_comparisons_says_what_p_is_corrected_for(
    page: str, markdown: str, evaluation: Evaluation
) -> None:
    family = holm_family(evaluation)
    assert "2 loads x 2 pairs = 4 tests for each metric, less those that give no p), not across metrics" in family
    assert page.count(family) == markdown.count(family) == len(evaluation.loads)
    assert terminal_tables(evaluation)[1].caption == family


def test_the_page_is_the_same_every_time(page: str, evaluation: Evaluation) -> None:
    curve = [CurvePoint(1000, 1.0, -5.0, 30.0), CurvePoint(2000, 2.0, -3.0, 20.0)]
    assert html_report("trial", evaluation, FACTS, curve) == page


def test_markdown_has_a_row_per_metric_and_load(markdown: str, evaluation: Evaluation) -> None:
    for metric in METRICS.values():
        rows = [line for line in markdown.splitlines() if line.startswith(f"| {metric.label}")]
        assert len(rows) >= len(evaluation.loads)


def test_markdown_says_how_to_read_the_numbers(markdown: str, evaluation: Evaluation) -> None:
    assert how_to_read(evaluation) in markdown
    assert "middle half of the seeds" in markdown


def test_markdown_tables_have_as_many_cells_in_every_row(markdown: str) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert markdown_table(["policy"], [["a|b"]]).splitlines()[-1] == r"| a\|b |"


def test_the_terminal_tables_have_a_row_per_load_and_policy_and_one_per_comparison(evaluation: Evaluation) -> None:
    assert [table.row_count for table in terminal_tables(evaluation)] == [2 * 3, 2 * 2]


def test_the_terminal_tables_name_the_default_by_its_plugins(evaluation: Evaluation) -> None:
    text = io.StringIO()
    for table in terminal_tables(evaluation):
        Console(file=text, width=200).print(table)
    assert "LeastAllocated + BalancedAllocation" in text.getvalue()


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("gpu_allocation", 0.123456, "12.3 %"),
        ("mean_wait_seconds", 12.345, "12.35"),
        ("mean_wait_seconds", 12345.6, "12,346"),
        ("mean_wait_seconds", NAN, "none"),
    ],
)
def test_metrics_are_shown_as_people_read_them(metric: str, value: float, shown: str) -> None:
    assert format_metric(METRICS[metric], value) == shown


@pytest.mark.parametrize(
    ("metric", "difference", "relative", "shown"),
    [
        ("mean_wait_seconds", (-5.0, -8.0, -2.0), (-0.25, -0.4, -0.1), "-25.0 % [-40.0, -10.0]"),
        ("mean_wait_seconds", (5.0, 2.0, 8.0), (NAN, NAN, NAN), "+5.00 s [+2.00, +8.00]"),
        ("gpu_allocation", (0.01, -0.005, 0.02), (0.1, -0.05, 0.2), "+1.00 points [-0.50, +2.00]"),
        ("mean_wait_seconds", (5.0, NAN, NAN), (0.25, NAN, NAN), "+5.00 s, no interval"),
        ("mean_wait_seconds", (NAN, NAN, NAN), (NAN, NAN, NAN), "none"),
    ],
)
def test_differences_are_shown_with_their_interval(
    metric: str, difference: tuple[float, float, float], relative: tuple[float, float, float], shown: str
) -> None:
    assert format_comparison(comparison(difference, relative), METRICS[metric]) == shown


def test_a_tiny_p_value_is_shown_as_a_bound() -> None:
    assert [format_p_value(value) for value in (0.00099, 0.0421, NAN)] == ["< 0.001", "0.042", "none"]


def test_files_that_belong_together_appear_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_whole({tmp_path / "a.json": "{}", tmp_path / "file" / "a.md": "#"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_files_of_one_stem_do_not_share_a_partial_file(tmp_path: Path) -> None:
    write_whole({tmp_path / "evaluation.json": "{}", tmp_path / "evaluation.md": "#"})
    assert [(tmp_path / name).read_text() for name in ("evaluation.json", "evaluation.md")] == ["{}", "#"]


def test_the_documentation_defines_every_metric() -> None:
    assert definitions(METRICS.values()) in DOCUMENTATION.read_text()
