"""Past runs: what they learned, how they did, and their reports."""

import time

import streamlit as st

from training.demo import figures
from training.demo.cells import table
from training.demo.past_runs import POLICY_FILE, REPORT_FILE, PastRun, past_runs, shown
from training.demo.views import controls

CHART = {"displayModeBar": False, "responsive": True}


def show() -> None:
    """The page."""
    st.title("Runs")
    folder = controls.runs_folder()
    st.caption(f"What `python -m training.run` left in {folder}/.")
    found = {run.name: run for run in past_runs(folder)}
    if not found:
        st.info(f"There is no run in {folder}/ yet: `make quickstart` makes one.")
        return
    run = found[st.selectbox("Run", list(found), key="run")]
    st.caption(f"last written {time.strftime('%Y-%m-%d %H:%M', time.localtime(run.modified))}")
    for part in (_curve, _evaluation, _files):
        try:
            part(run)
        except (ValueError, OSError) as error:  # the other parts may be sound
            st.error(controls.literal(str(error)), icon=":material/block:")


def _curve(run: PastRun) -> None:
    points = run.curve()
    if not points:
        return
    st.subheader("Learning curve")
    waiting, gain = st.columns(2, gap="medium")
    waiting.plotly_chart(figures.learning_curve(points, waits=True), config=CHART, key="waits")
    gain.plotly_chart(figures.learning_curve(points, waits=False), config=CHART, key="returns")


def _evaluation(run: PastRun) -> None:
    evaluation = run.evaluation()
    if evaluation is None:
        return
    st.subheader("Evaluation on held-back seeds")
    titles, rows = shown(evaluation)
    st.html(table(titles, rows, numbers=2, wide=titles.index("policy")))
    st.caption("A judged policy against each of the others, paired by seed, with 95 % intervals.")


def _files(run: PastRun) -> None:
    with st.container(horizontal=True):
        for name, label in ((REPORT_FILE, "Report"), (POLICY_FILE, "Policy file")):
            file = run.file(name)
            if file is not None:
                st.download_button(
                    label, file.read_bytes(), f"{run.folder.name}-{name}", key=name, icon=":material/download:"
                )
    report = run.file(REPORT_FILE)
    if report is not None:
        with st.expander("Report"):
            st.iframe(report, height=700)
