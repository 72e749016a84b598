"""Policies side by side: the same arrivals for all, and what may be said of the difference."""

from html import escape

import streamlit as st

from training.demo import cells, figures, paired
from training.demo.policies import resources_of
from training.demo.views import controls
from training.evaluation.runner import Evaluation

CHART = {"displayModeBar": False, "responsive": True}
FIRST_CHOICES = ("bundled:latency", "rule best-fit", "rule kube-scheduler-default")
AT_MOST = 6
PLAYED = "played_evaluation"


def show() -> None:
    """The page."""
    st.title("Side by side")
    st.caption("Every policy meets the same pods on the same cluster; a difference is only as good as its interval.")
    with st.sidebar:
        nodes = st.slider("Nodes", 8, 128, 32, 8, key="compare_nodes")
        arguments, load = controls.workload()
        pods = st.slider("Pods of an episode", 500, 4000, 1500, 500, key="compare_pods")
        seeds = st.slider("Episodes (seeds)", 5, 40, 10, 5, key="compare_seeds")
        controls.upload()
    known = controls.all_choices()
    first = [name for name in FIRST_CHOICES if name in known]
    chosen = st.multiselect("Policies", list(known), first, max_selections=AT_MOST, key="compared")
    if len(chosen) < 2:
        st.info("Choose two policies or more.")
        return
    baseline = st.selectbox("Compared with", chosen, index=len(chosen) - 1, key="baseline")
    if st.button("Play", type="primary", icon=":material/play_arrow:"):
        game = paired.Game(nodes, pods, load, seeds)
        bar = st.progress(0.0, "The first time the simulator is compiled, which takes a minute")
        try:
            counts = {name: resources_of(controls.policy_of(known[name])) for name in chosen}
            files = {count for name, count in counts.items() if not name.startswith("rule ")}
            population = controls.population(arguments.source, max(files, default=3))
            st.session_state[PLAYED] = paired.side_by_side(
                {name: known[name] for name in chosen},
                baseline,
                game,
                population,
                arguments,
                lambda done, total, what: bar.progress(done / total, f"{done} of {total} episodes"),
            )
        except controls.REFUSED as error:
            st.error(controls.literal(str(error)), icon=":material/block:")
            return
        finally:
            bar.empty()
    if PLAYED in st.session_state:
        _results(st.session_state[PLAYED])


def _results(evaluation: Evaluation) -> None:
    settings = evaluation.settings
    st.caption(
        f"{evaluation.workload}; {settings['nodes']} nodes, {settings['pods']:,} pods, load {evaluation.loads[0]:g}, "
        f"{len(evaluation.seeds)} seeds; brackets are 95 % intervals"
    )
    shown = {evaluation.metrics[key].label: key for key in paired.SHOWN_METRICS}
    label = st.segmented_control("Metric", list(shown), default=next(iter(shown)), key="metric")
    metric = evaluation.metrics[shown[label or next(iter(shown))]]
    differences = paired.differences(evaluation, metric.key)
    st.plotly_chart(figures.paired_differences(differences, metric), config=CHART, key="differences")
    for entry in differences:
        st.html(f"<p>{escape(paired.verdict(entry, metric))}</p>")
    st.caption(f"{metric.definition} Better is {metric.better}.")
    for each in (evaluation.metrics[key] for key in paired.SHOWN_METRICS):
        st.subheader(each.label)
        titles = ("policy", f"mean, {each.unit}", f"difference, {paired.unit_of(each)}")
        st.html(cells.table(titles, paired.rows(evaluation, each), numbers=2, wide=0))
