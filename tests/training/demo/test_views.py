"""The pages' widgets, without a browser: what is told of files that are not sound, and what is offered."""

import os
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from extender.policies.bundled import policy_path
from training.demo.past_runs import EVALUATION_FILE
from training.demo.views.variables import RUNS_VARIABLE
from training.evaluation.curve import CurvePoint
from training.recorder import CURVE_FILE, write_curve

SECONDS = 600.0  # the first cluster compiles the simulator, where no test did before
NAME = "we *ird* [a](http://x).onnx"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    (tmp_path / "runs" / "first").mkdir(parents=True)
    return tmp_path / "runs"


def page(name: str) -> AppTest:
    return AppTest.from_string(f"from training.demo.views import {name}\n{name}.show()", default_timeout=SECONDS)


def uploaded(name: str, file: str, content: bytes) -> AppTest:
    shown = page(name).run()
    shown.file_uploader(key="upload").set_value((file, content, "application/octet-stream"))
    return shown.run()


def test_a_torn_curve_is_told_in_one_line_and_the_rest_of_the_run_is_shown(runs: Path) -> None:
    write_curve(runs / "first" / CURVE_FILE, [CurvePoint(1000, 1.5, -5.25, 30.0)])
    os.truncate(runs / "first" / CURVE_FILE, (runs / "first" / CURVE_FILE).stat().st_size - 10)
    (runs / "first" / EVALUATION_FILE).write_text(
        '{"policies": {"es": {"gpu_allocated_percent": 93.0}}, "comparisons": []}'
    )
    shown = page("runs").run()
    assert not shown.exception
    [told] = shown.error
    assert f"{CURVE_FILE}, line 2: the file is cut off within it" in told.value
    assert [each.value for each in shown.subheader] == ["Evaluation on held-back seeds"]


def test_an_evaluation_that_is_none_leaves_the_curve(runs: Path) -> None:
    write_curve(runs / "first" / CURVE_FILE, [CurvePoint(1000, 1.5, -5.25, 30.0)])
    (runs / "first" / EVALUATION_FILE).write_text("[]")
    shown = page("runs").run()
    assert not shown.exception
    [told] = shown.error
    assert f"{EVALUATION_FILE} holds no evaluation" in told.value
    assert [each.value for each in shown.subheader] == ["Learning curve"]


def test_an_upload_is_offered_at_once(runs: Path) -> None:
    shown = uploaded("compare", NAME, policy_path("bundled:packing").read_bytes())
    assert f"upload {NAME}" in shown.multiselect(key="compared").options
    assert len(shown.multiselect(key="compared").value) == 3
    assert shown.success[0].value == f"` {NAME} ` is a policy that the extender serves."


def test_a_refused_upload_is_told_as_it_is_called_and_why(runs: Path) -> None:
    shown = uploaded("compare", NAME, b"\0" * (1024 * 1024 + 1))
    assert shown.error[0].value == (f"The extender refuses ` {NAME} `: ` 1048577 bytes, a policy has at most 1048576 `")


def test_the_smallest_and_busiest_cluster_has_something_to_decide(runs: Path) -> None:
    shown = page("cluster")
    shown.session_state["nodes"], shown.session_state["load"] = 8, 1.3
    shown.run()
    assert not shown.exception
    assert not shown.info
    assert any("It fits on" in each.value for each in shown.markdown)
    shown.file_uploader(key="upload").set_value(("mine.onnx", policy_path("bundled:packing").read_bytes(), "x"))
    shown.run()
    assert "upload mine.onnx" in shown.selectbox(key="policy").options


def test_a_policy_that_a_run_has_replaced_is_the_one_that_is_shown(runs: Path) -> None:
    file = runs / "first" / "policy.onnx"
    file.write_bytes(policy_path("bundled:packing").read_bytes())
    shown = page("cluster")
    shown.session_state["nodes"], shown.session_state["policy"] = 8, "run first"
    packing = shown.run().session_state["live"].policy.digest
    file.write_bytes(policy_path("bundled:latency").read_bytes())
    assert shown.run().session_state["live"].policy.digest != packing
    file.unlink()
    shown.run()
    assert not shown.exception
    assert shown.selectbox(key="policy").value == "bundled:latency"
