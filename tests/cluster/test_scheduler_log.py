"""The reading of kube-scheduler's log, on lines as it writes them."""

from pathlib import Path

import pytest

from tests.cluster.scheduler_log import Attempt, Departure, SchedulerLog

PLACED = """\
I1121 13:08:04.862902   26754 schedule_one.go:107] "About to try and schedule pod" pod="default/a"
I1121 13:08:04.862910   26754 schedule_one.go:123] "Attempting to schedule pod" pod="default/a"
I1121 13:08:04.863194   26754 schedule_one.go:982] "Plugin scored node for pod" pod="default/a" plugin="Fit" node="x" score=98
I1121 13:08:04.863195   26754 schedule_one.go:982] "Plugin scored node for pod" pod="default/a" plugin="Balance" node="x" score=75
I1121 13:08:04.863206   26754 schedule_one.go:982] "Plugin scored node for pod" pod="default/a" plugin="Fit" node="y" score=9
I1121 13:08:04.863207   26754 schedule_one.go:982] "Plugin scored node for pod" pod="default/a" plugin="Balance" node="y" score=0
I1121 13:08:04.863465   26754 schedule_one.go:1050] "Calculated node's final score for pod" pod="default/a" node="x" score=173
I1121 13:08:04.863470   26754 schedule_one.go:1050] "Calculated node's final score for pod" pod="default/a" node="y" score=9
"""  # noqa: E501
BOUND = (
    'I1121 13:08:04.9 26754 schedule_one.go:481] "Successfully bound pod to node" pod="default/a" node="x" '
    "evaluatedNodes=2 feasibleNodes=2\n"
    'I1121 13:08:04.9 26754 eventhandlers.go:335] "Delete event for unscheduled pod" pod="default/a"\n'
)
DELETED = 'I1121 13:08:05.0 26754 eventhandlers.go:443] "Delete event for scheduled pod" pod="default/a"\n'
NO_FIT = (
    'I1121 13:08:05.1 26754 schedule_one.go:123] "Attempting to schedule pod" pod="default/b"\n'
    'I1121 13:08:05.1 26754 schedule_one.go:1229] "Unable to schedule pod; no fit; waiting" pod="default/b" '
    'err="0/2 nodes are available: 2 Insufficient cpu."\n'
)
DELETED_UNPLACED = 'I1121 13:08:05.2 26754 eventhandlers.go:335] "Delete event for unscheduled pod" pod="default/b"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "kube-scheduler.log"
    path.touch()
    return path


def read(path: Path, text: str) -> SchedulerLog:
    path.write_text(text)
    log = SchedulerLog(path)
    log.read_on()
    return log


def test_an_attempt_has_the_scores_of_every_plugin_and_node(path: Path) -> None:
    scores = {"Fit": {"x": 98, "y": 9}, "Balance": {"x": 75, "y": 0}}

    assert read(path, PLACED + BOUND).events == [Attempt("a", scores, {"x": 173, "y": 9}, "x")]


def test_a_pod_is_settled_once_it_is_bound(path: Path) -> None:
    assert not read(path, PLACED).is_settled("a")
    assert read(path, PLACED + BOUND).is_settled("a")


def test_leaving_the_queue_for_a_node_is_no_departure(path: Path) -> None:
    assert not read(path, PLACED + BOUND).has_left("a")
    assert read(path, PLACED + BOUND + DELETED).events[-1] == Departure("a")


def test_a_pod_without_a_node_is_rejected_and_can_leave(path: Path) -> None:
    log = read(path, NO_FIT + DELETED_UNPLACED)

    assert log.events == [Attempt("b", rejected=True), Departure("b")]


def test_half_a_line_waits_for_its_end(path: Path) -> None:
    log = read(path, (PLACED + BOUND)[:-200])
    assert not log.is_settled("a")

    path.write_text(PLACED + BOUND)
    log.read_on()

    assert log.events == read(path, PLACED + BOUND).events
