import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.__main__ import running
from benchmarks.serving.clients import ask_http, compile_c, score_requests
from benchmarks.serving.requests import NODES, questions, write_requests
from extender import wire

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the load generator is built with gcc")


def test_every_request_is_answered_and_timed(tmp_path: Path) -> None:
    (tmp_path / "answer").write_text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
    write_requests(tmp_path / "requests", questions(np.random.default_rng(0), 3, 500, "p"))
    load, null = compile_c("load", tmp_path), compile_c("null_server", tmp_path)
    with running([null, tmp_path / "answer"]) as (line, _):
        seconds = ask_http(load, int(line), tmp_path / "requests", 20, 0.0)

    assert len(seconds) == 20
    assert (seconds > 0).all()


def test_what_is_asked_is_what_kube_scheduler_asks(tmp_path: Path) -> None:
    asked = questions(np.random.default_rng(0), 3, 500, "p")
    write_requests(tmp_path / "requests", asked)
    raw = (tmp_path / "requests").read_bytes()
    head, body = raw[4 : 4 + int.from_bytes(raw[:4], "little")].split(b"\r\n\r\n")
    args = wire.decode_args(body)

    assert b"POST /prioritize HTTP/1.1" in head
    assert len(set(args.node_names)) == 500 < NODES
    assert args.pod.metadata.name == asked[0][0]["metadata"]["name"]
    assert score_requests(asked)[0].node_names == args.node_names


def test_an_answer_that_is_no_200_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "answer").write_text("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n[]")
    write_requests(tmp_path / "requests", questions(np.random.default_rng(0), 1, 10, "p"))
    load, null = compile_c("load", tmp_path), compile_c("null_server", tmp_path)
    with running([null, tmp_path / "answer"]) as (line, _), pytest.raises(Exception, match="non-zero exit status 1"):
        ask_http(load, int(line), tmp_path / "requests", 2, 0.0)
