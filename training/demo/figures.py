"""The charts of the pages, as Plotly figures; text takes the colours of the page's theme."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from training.demo.live import Course
from training.demo.paired import PERCENT, unit_of
from training.evaluation.curve import CurvePoint
from training.evaluation.metrics import Metric
from training.evaluation.statistics import Comparison

GPU, CPU, WAITING, FIRST, SECOND = "#cf8f3f", "#5b84b1", "#8a6fa8", "#2f7f9f", "#cf8f3f"
HEIGHT = 250
ROW_HEIGHT, NAME_ABOVE, MARGINS = 54, 16, 70


def over_time(course: Course) -> go.Figure:
    """What is in use, by simulated time."""
    figure = _figure("simulated time, h", "in use, %")
    for name, colour, shares in (("GPU", GPU, course.gpu_in_use), ("CPU", CPU, course.cpu_in_use)):
        line = {"color": colour, "width": 2, "shape": "hv"}
        figure.add_scatter(x=course.seconds / 3600, y=100 * shares, mode="lines", name=name, line=line)
    figure.update_yaxes(range=[0, 102])
    return figure


def waiting_over_time(course: Course) -> go.Figure:
    """How many pods wait, by simulated time."""
    figure = _figure("simulated time, h", "pods that wait")
    line = {"color": WAITING, "width": 2, "shape": "hv"}
    hours = course.seconds / 3600
    figure.add_scatter(x=hours, y=course.waiting, mode="lines", name="waiting", line=line, showlegend=False)
    figure.update_yaxes(range=[0, max(5, 1.1 * float(course.waiting.max()))], tickformat=",d")
    return figure


def paired_differences(comparisons: Sequence[Comparison], metric: Metric) -> go.Figure:
    """Each policy against the baseline: the difference of the means with its 95 % interval, and a line at 0."""
    scale = 100 if metric.unit == PERCENT else 1
    figure = _figure(f"difference in {metric.label}, {unit_of(metric)}", "")
    for entry in reversed(comparisons):
        better = (entry.difference_high < 0) if metric.better == "lower" else (entry.difference_low > 0)
        figure.add_scatter(
            x=[scale * entry.difference],
            y=[entry.policy],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [scale * (entry.difference_high - entry.difference)],
                "arrayminus": [scale * (entry.difference - entry.difference_low)],
                "thickness": 2,
            },
            mode="markers",
            marker={"color": FIRST if better else SECOND, "size": 10},
            showlegend=False,
            hovertemplate="%{x:.2f}<extra></extra>",
        )
        # Above its interval, not beside it: a name may take half the width of a phone.
        label = {"showarrow": False, "xref": "paper", "x": 0, "xanchor": "left", "yshift": NAME_ABOVE}
        figure.add_annotation(text=escape(entry.policy), y=entry.policy, **label)
    figure.add_vline(x=0, line={"width": 1, "dash": "dot", "color": "gray"})
    figure.update_layout(height=MARGINS + ROW_HEIGHT * len(comparisons))
    figure.update_yaxes(showticklabels=False, showgrid=False, range=[-0.5, len(comparisons) - 0.2])
    return figure


def learning_curve(points: Sequence[CurvePoint], *, waits: bool) -> go.Figure:
    """What a run learned: mean waits or returns, of recent training episodes and of held-out ones.

    Args:
        points: the learning curve.
        waits: the wait of a pod, rather than the return of an episode.
    """
    figure = _figure("decisions", "mean wait of a pod, s" if waits else "mean return of an episode")
    steps = [point.steps for point in points]
    trained = [point.mean_wait_seconds if waits else point.mean_return for point in points]
    held_out = [point.held_out_wait_seconds if waits else point.held_out_return for point in points]
    figure.add_scatter(x=steps, y=trained, mode="lines", name="training", line={"color": FIRST, "width": 2})
    looked = [(step, value) for step, value in zip(steps, held_out, strict=True) if value == value]  # not NaN
    if looked:
        figure.add_scatter(
            x=[step for step, _ in looked],
            y=[value for _, value in looked],
            mode="lines+markers",
            name="held out",
            line={"color": SECOND, "width": 2},
        )
    return figure


def _figure(x: str, y: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        xaxis_title=x,
        yaxis_title=y,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        dragmode=False,
    )
    return figure
