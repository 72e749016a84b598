"""The probe's exit status, against servers that answer, refuse and hang."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from extender import probe


@contextmanager
def serve(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"why\n")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/readyz"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_answer_of_200_is_a_success() -> None:
    with serve(200) as url:
        assert probe.main([url]) == probe.OK


def test_any_other_answer_is_a_failure_and_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(503) as url:
        assert probe.main([url]) == probe.NOT_OK
    assert capsys.readouterr().out.startswith("503 why")


def test_the_whole_path_is_asked_for() -> None:
    with serve(200) as url:
        assert probe.main([f"{url}?verbose"]) == probe.NOT_OK


def test_nobody_there_is_a_failure_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/readyz"
        assert probe.main([url]) == probe.NOT_OK
    assert "refused" in capsys.readouterr().out


def test_a_server_that_hangs_is_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # the kernel accepts, nobody answers
        assert probe.main([f"http://127.0.0.1:{silent.getsockname()[1]}/healthz"]) == probe.NOT_OK
    assert "timed out" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["/readyz"], ["ftp://127.0.0.1:1/"], ["http://127.0.0.1/"]])
def test_anything_but_a_url_is_a_usage_error(arguments: list[str]) -> None:
    assert probe.main(arguments) == probe.USAGE_ERROR


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://[::1/readyz",
        "nonsense",
        "http://127.0.0.1:99999/readyz",
        "http://127.0.0.1:port/readyz",
        "http://:8888/readyz",
        "http://127.0.0.1:1/ready z",
        "http://127.0.0.1:1/bereit-für-alles",
        f"http://{'a' * 64}ü:1/",
    ],
)
def test_a_url_that_nothing_can_be_asked_at_is_named_in_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main([url]) == probe.USAGE_ERROR
    said = capsys.readouterr()
    assert said.err.startswith(f"{url}: ")
    assert said.err.endswith("expected http://HOST:PORT/PATH\n")
    assert said.err.count("\n") == 1


def test_it_imports_nothing_but_the_standard_library() -> None:
    program = "import sys, extender.probe; print(*{name.partition('.')[0] for name in sys.modules})"
    answer = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    ours = {"extender", "__main__"}
    installed_at_start = {name for name in answer.stdout.split() if name.startswith(("_", "sitecustomize"))}
    assert set(answer.stdout.split()) - ours - installed_at_start <= set(sys.stdlib_module_names)
