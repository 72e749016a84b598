"""Our programs, begun where their imports are done: a server has imported PyTorch and all that, and forks for each.

Importing takes a run longer than all that its tests look at. From the fork on it is a program like any other: its own
process, arguments, folder and output, an exit code, and a signal ends it. What is left out, the way from nothing to the
first line, is gone by the tests of the commands, by one run in `test_run` and by pages that are followed literally.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# What a run imports at its beginning, and what it imports on the way: where it trains, exports and draws.
IMPORTED = ("training.run", "training.evaluate", "torch._dynamo", "torch.onnx._internal.exporter._core", "onnxscript")
STILL_RUNS = "still runs"


class Program:
    """One that was begun; its output is in two files."""

    def __init__(self, server: "WarmStart", pid: int, output: Path, errors: Path) -> None:
        self._server, self.pid, self._output, self._errors = server, pid, output, errors
        self._status: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative after a signal; None while it runs."""
        return self._ended("poll")

    def wait(self) -> "subprocess.CompletedProcess[str]":
        """Wait for its end; a test's own time limit ends that."""
        status = self._ended("wait")
        assert status is not None
        return subprocess.CompletedProcess([], status, self._output.read_text(), self._errors.read_text())

    def kill(self) -> None:
        """End it at once, and wait."""
        if self._status is None:  # so nobody has waited for it, and the number is still its own
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def _ended(self, how: str) -> int | None:
        if self._status is None:
            told = self._server.ask({how: self.pid})["status"]
            self._status = None if told == STILL_RUNS else told
        return self._status


class WarmStart:
    """The server, and what it has begun."""

    def __init__(self, folder: Path) -> None:
        """Start it; it imports while others go on. What programs print is kept in the folder."""
        command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
        self._server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._folder, self._begun = folder, list[Program]()

    def begin(self, module: str, folder: Path, *arguments: str) -> Program:
        """Begin `python -m module` with these arguments in a folder."""
        outputs = [self._folder / f"{len(self._begun)}.{name}" for name in ("out", "err")]
        program = {"module": module, "arguments": arguments, "folder": str(folder), "outputs": [*map(str, outputs)]}
        self._begun.append(Program(self, self.ask(program)["begun"], *outputs))
        return self._begun[-1]

    def run(self, module: str, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The same from its beginning to its end."""
        return self.begin(module, folder, *arguments).wait()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the server; whatever it still has to say to a test that was given up is passed over."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        while line := self._server.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            if answer["to"] == json.loads(json.dumps(request)):
                return answer
        raise RuntimeError(f"the server that forks has ended with {self._server.wait()}")

    def stop(self) -> None:
        """End everything."""
        for program in self._begun:
            program.kill()
        self._server.communicate()


def serve() -> None:
    """The server: begin and watch programs as it is told line by line. In a program this goes on to its end."""
    for module in IMPORTED:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        if "module" in request:
            begun = os.fork()
            if not begun:
                _become(request)
                return
            answer = {"begun": begun}
        else:
            ((how, pid),) = request.items()
            found, status = os.waitpid(pid, os.WNOHANG if how == "poll" else 0)
            answer = {"status": os.waitstatus_to_exitcode(status) if found else STILL_RUNS}
        print(json.dumps({"to": request, **answer}), flush=True)


def _become(request: dict[str, Any]) -> None:
    os.chdir(request["folder"])
    for descriptor, path in enumerate([os.devnull, *request["outputs"]]):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv[1:] = request["arguments"]
    sys.modules.pop(request["module"], None)  # it runs from its first line, after all that it imports
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
