import json
import logging
from pathlib import Path

import pytest

from extender.telemetry.logs import JsonFormatter, TextFormatter, about_pod, about_trace
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import exchange, serve

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("extender.test", logging.WARNING, "", 0, message, (), None)


@pytest.fixture(autouse=True)
def no_request_after_the_test():
    yield
    about_trace("")
    about_pod("", "")


def test_a_line_names_the_pod_and_the_trace_it_is_about() -> None:
    about_trace(f"00-{TRACE}-00f067aa0ba902b7-01")
    about_pod("default", "p")
    line = json.loads(JsonFormatter().format(record("odd")))

    assert (line["level"], line["logger"], line["message"]) == ("warning", "extender.test", "odd")
    assert (line["pod"], line["trace_id"]) == ("default/p", TRACE)
    assert TextFormatter("%(message)s").format(record("odd")) == f"odd [pod=default/p trace={TRACE}]"


@pytest.mark.parametrize(
    "header", ["", "nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"ff-{TRACE}-00f067aa0ba902b7-01"]
)
def test_what_is_no_trace_is_none(header: str) -> None:
    about_trace(header)

    assert "trace_id" not in json.loads(JsonFormatter().format(record("odd")))


def test_a_request_is_found_in_the_log_by_its_callers_trace(tmp_path: Path) -> None:
    with serve(cluster_list(node("n")), tmp_path, "--log-format", "json") as extender:
        body = extender_args(pod("odd", {"stowage.dev/gpu-milli": "1500"}), ["n"])
        connection = extender.connect()
        connection.request("POST", "/prioritize", body, {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
        assert connection.getresponse().read() == b"[]"
        exchange(connection, "POST", "/prioritize", body)
        connection.close()
        lines = [json.loads(line) for line in extender.terminate()[1].splitlines()]

    about = [line for line in lines if line.get("pod") == "default/odd"]
    assert [line.get("trace_id") for line in about] == [TRACE, None]
    assert all("expected less than 1000" in line["message"] for line in about)
