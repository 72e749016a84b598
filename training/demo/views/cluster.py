"""A cluster while it is being scheduled: its nodes, its queue, and why the next pod goes where it goes."""

import numpy as np
import streamlit as st

from training.demo import cells, figures
from training.demo.live import LiveCluster
from training.demo.policies import edition, resources_of
from training.demo.views import controls
from training.workloads.selection import WorkloadArguments, draw

PODS = 3000
FIRST_DECISIONS = 800  # until the cluster is about as full as it will be; fewer where few are to be taken
TICK_SECONDS = 1.0
LIVE, GIVEN = "live", "live_given"
CHART = {"displayModeBar": False, "responsive": True}


def show() -> None:
    """The page."""
    st.title("A cluster at work")
    st.caption("A simulated cluster stands still where the policy has a choice. Step on, and see why it chooses.")
    settings, uploads = st.sidebar.container(), st.sidebar.container()
    with uploads:
        controls.upload()  # first, so that what was taken can be chosen at once
    with settings:
        known = controls.all_choices()
        name = st.selectbox("Policy", list(known), key="policy")
        nodes = st.slider("Nodes", 8, 96, 32, 8, key="nodes")
        arguments, load = controls.workload()
        seed = st.number_input("Seed", 0, 10_000, 1, key="seed", help="Another seed, other pods")
    try:
        file = str(known[name]), edition(known[name])
        given = (*file, nodes, arguments.source, arguments.process, load, seed)
        if st.session_state.get(GIVEN) != given:
            with st.spinner("Filling the cluster; the first time the simulator is compiled, which takes a minute"):
                st.session_state[LIVE] = _begin(known[name], nodes, arguments, load, int(seed))
            st.session_state[GIVEN] = given
    except controls.REFUSED as error:
        st.error(controls.literal(str(error)), icon=":material/block:")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        steps = {"Next decision": 1, "10 on": 10, "100 on": 100}
        pressed = [number for label, number in steps.items() if st.button(label, key=f"on-{number}")]
        playing = st.toggle("Play", key="playing")
    for number in pressed:
        st.session_state[LIVE].advance(number)
    st.fragment(_board, run_every=TICK_SECONDS if playing else None)(int(playing))


def _begin(choice, nodes: int, arguments: WorkloadArguments, load: float, seed: int) -> LiveCluster:
    policy = controls.policy_of(choice)
    drawn = draw(
        controls.population(arguments.source, resources_of(policy)),
        arguments,
        nodes=nodes,
        pods=PODS,
        load=load,
        generator=np.random.default_rng(seed),
    )
    live = LiveCluster(drawn, policy, seed)
    live.fill(FIRST_DECISIONS)
    return live


def _board(decisions: int) -> None:
    live: LiveCluster = st.session_state[LIVE]
    live.advance(decisions)
    st.html(
        cells.facts(
            {
                "simulated time": f"{live.seconds / 3600:,.1f} h",
                "mean wait so far": f"{live.mean_wait_seconds:,.1f} s",
                "pods started": f"{live.started:,}",
                "pods that wait": f"{live.history[-1].waiting:,}",
                "GPUs in use": f"{100 * live.history[-1].gpu_in_use:.0f} %",
                "GPUs free but useless": f"{100 * live.stranded_gpu:.1f} %",
            }
        )
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.subheader("Nodes")
        st.html(cells.cluster(live))
    with right:
        _decision(live)
        st.subheader("Queue")
        st.html(cells.queue(live.queue()))
    first, second = st.columns(2, gap="medium")
    course = live.course()
    first.plotly_chart(figures.over_time(course), config=CHART, key="use")
    second.plotly_chart(figures.waiting_over_time(course), config=CHART, key="waiting")


def _decision(live: LiveCluster) -> None:
    st.subheader("Decision")
    decision = live.decision
    if decision is None:
        st.info(
            f"The episode is over: {live.started:,} of its {len(live.workload):,} pods were placed. Another seed has "
            "others; a lower load or more nodes leave more to choose."
        )
        return
    st.write(cells.headline(decision))
    ranks, why = st.tabs(["Scores", "Why"])
    with ranks:
        st.html(cells.ranking(decision))
    with why:
        manner = decision.explanation["manner"]
        if manner is None:
            st.caption("A rule is one formula: it has no features to tell apart. Choose a policy file.")
            return
        names = [node["name"] for node in decision.explanation["nodes"]]
        chosen = st.selectbox("Node", names, key="why")
        node = decision.explanation["nodes"][names.index(chosen) if chosen in names else 0]
        st.html(cells.contributions(node))
        st.caption(
            "The parts of all features add up to the score."
            if manner == "weights"
            else "How much higher the score is than with the mean of the ranked nodes' values."
        )
