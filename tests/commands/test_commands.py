"""Every command, one by one: help with examples and exit codes, refusals, plain text where there is no terminal.

A module that can be run and is not in `COMMANDS` fails here: it is either a command for people, or is said not to be.
"""

import importlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from extender.closed_pipe import CLOSED_PIPE
from extender.completion import bash_script
from training import completion

ROOT = Path(__file__).resolve().parents[2]
# Module, and what stands before its examples.
COMMANDS = {
    "extender.__main__": "stowage-extender",
    "extender.probe": "python -m extender.probe",
    "training.run": "python -m training.run",
    "training.evaluate": "python -m training.evaluate",
    "training.compare": "python -m training.compare",
    "training.completion": "python -m training.completion",
    "training.benchmarks.openb": "python -m training.benchmarks.openb",
    "training.workloads.recorded": "python -m training.workloads.recorded",
    "training.demo.__main__": "python -m training.demo",
    "training.replay.__main__": "python -m training.replay",
    "training.kind.__main__": "python -m training.kind",
    "training.cycle.__main__": "python -m training.cycle",
    "training.monitor.__main__": "python -m training.monitor",
    "benchmarks.simulator": "python -m benchmarks.simulator",
    "benchmarks.scheduler": "python -m benchmarks.scheduler",
    "benchmarks.serving.__main__": "python -m benchmarks.serving",
    "benchmarks.soak.__main__": "python -m benchmarks.soak",
}
# Started by other programs alone.
PARTS = {
    "extender.renewal",
    "training.simulator.ahead",
    "benchmarks.serving.api_server",
    "benchmarks.serving.null_rpc",
    "benchmarks.soak.client",
}
TAKES_WORDS = {"training.run", "training.compare"}  # settings rather than flags
ESCAPE = "\x1b"


def runnable() -> Iterator[str]:
    for package in ("extender", "training", "benchmarks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8"):
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


RUNNABLE = [module for module in runnable() if module not in PARTS]


def said(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command in this process; returns its exit code."""
    monkeypatch.setattr("sys.argv", [module, *arguments])
    main = importlib.import_module(module).main
    try:
        status = main(arguments) if module == "extender.probe" else main()
    except SystemExit as stop:
        status = stop.code
    return int(status or 0)


def test_every_module_that_can_be_run_is_known() -> None:
    assert [module for module in RUNNABLE if module not in COMMANDS] == []


@pytest.mark.parametrize("module", RUNNABLE)
def test_help_has_examples_and_exit_codes_and_is_plain_text(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(module, ["--help"], monkeypatch) == 0
    text = capsys.readouterr().out
    examples = [line for line in text.splitlines() if line.strip().startswith(COMMANDS[module])]
    assert len(examples) >= 1
    assert re.search(r"[Ee]xit (codes?|status)", text)
    assert ESCAPE not in text


@pytest.mark.parametrize("module", RUNNABLE)
def test_what_is_not_known_is_refused_with_2_and_named(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    word = "no_such_key=1" if module in TAKES_WORDS else "--no-such-flag"
    assert said(module, [word], monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.strip()
    assert ESCAPE not in error


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("--nosuch", "--nosuch: no such flag; there are -m, for sweeps, and --help. Expected settings as KEY=VALUE"),
        ("env.nodes", "env.nodes: it cannot be read. Expected settings as KEY=VALUE, such as env.nodes=32"),
        ("env.nodes=[1", "env.nodes=[1: it cannot be read. Expected settings as KEY=VALUE"),
        ("nosuch=1", "nosuch: no such key. Allowed here: name, seed, algorithm"),
        ("~nosuch", "nosuch: no such key. Allowed here: name, seed, algorithm"),
        ("algorithm=nosuch", "algorithm=nosuch: expected one of dqn, es, ppo, sac"),
        ("algorithm=null", "algorithm=null: expected one of dqn, es, ppo, sac"),
        ("experiment=nosuch", "experiment=nosuch: expected one of cycle, e2e, latency"),
        ("seed=1,2", "seed=1,2: several values are for a sweep, by -m; a list is [1,2]"),
        ("env.nodes=abc", "env.nodes=abc: Value 'abc' of type 'str' could not be converted to Integer. Expected"),
    ],
)
def test_a_setting_that_is_none_is_refused_in_one_line_of_our_own(
    word: str, complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said("training.run", [word], monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"training.run: {complaint}")
    assert error.count("\n") == 1
    assert "hydra" not in error


@pytest.mark.parametrize(
    ("module", "flag", "values"),
    [
        ("training.kind.__main__", "--pods", ("0", "-5", "1.5", "many")),
        ("benchmarks.simulator", "--repeats", ("0", "-1")),
        ("benchmarks.scheduler", "--rounds", ("0",)),
        ("benchmarks.serving.__main__", "--scale", ("0", "nan", "inf", "-1")),
        ("benchmarks.soak.__main__", "--minutes", ("0", "nan", "inf", "-1")),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_2_and_named(
    module: str, flag: str, values: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in values:
        assert said(module, [f"{flag}={value}"], monkeypatch) == 2
        assert f"{flag}: '{value}': expected a" in capsys.readouterr().err


def test_ctrl_c_ends_openb_with_130_and_one_line(
    openb_traces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(
        "training.benchmarks.openb", ["--policy=all", "--mix=all", f"--traces={openb_traces}"], monkeypatch, capsys
    )


def test_ctrl_c_ends_a_benchmark_with_130_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt("benchmarks.simulator", [], monkeypatch, capsys)


def interrupt(
    module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    importlib.import_module(module)
    pressed = threading.Timer(2.0, os.kill, [os.getpid(), signal.SIGINT])  # its work takes minutes
    pressed.start()
    try:
        assert said(module, arguments, monkeypatch) == 130
    finally:
        pressed.cancel()
    assert capsys.readouterr().err == f"{module.rpartition('.')[2]}: interrupted, nothing was written\n"


@pytest.mark.parametrize("module", RUNNABLE)
def test_a_reader_that_has_gone_ends_it_without_a_word(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed_pipe:
        monkeypatch.setattr("sys.stdout", closed_pipe)
        assert said(module, ["--help"], monkeypatch) == CLOSED_PIPE
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("module", RUNNABLE)
def test_a_full_disk_is_said_in_one_line(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert said(module, ["--help"], monkeypatch) == 1
    assert capsys.readouterr().err == "standard output cannot be written: No space left on device\n"


def complete(script: Path, *words: str) -> list[str]:
    """What bash offers behind these words, the last of which is being typed."""
    quoted = " ".join(f"'{word}'" for word in words)
    line = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}"
    asked = f"source {script}; {line}; _stowage; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    answer = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=180)
    return answer.stdout.split()


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_text(bash_script(completion.completions(), completion.PROGRAMS))
    return path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("stowage-extender", ""), "serve"),
        (("stowage-extender", "serve", "--dead"), "--deadline"),
        ((".venv/bin/stowage-extender", "explain", "--po"), "--pod"),
        (("python", "-m", "training.ev"), "training.evaluate"),
        (("python", "-m", "training.monitor", "--verd"), "--verdict"),
        (("python", "-m", "training.replay", "--real"), "--real-nodes"),
        (("python", "-m", "training.kind", "--ke"), "--keep"),
        (("python", "-m", "training.cycle", "rec"), "record"),
        (("python", "-m", "training.cycle", "run", "decis"), "decision_log="),
        (("python", "-m", "training.cycle", "--name", "november", "roll"), "rollback"),
        ((".venv/bin/python", "-m", "training.evaluate", "--serv"), "--service-levels"),
        (("stowage-extender", "serve", "--policy", "a/b.onnx", "--dead"), "--deadline"),
        (("python", "-m", "training.run", "algorithm", "=", "p"), "ppo"),  # as bash takes it apart
        (("python", "-m", "training.run", "algorithm", "="), "dqn"),
        (("python", "-m", "training.run", "env.nod"), "env.nodes="),
        (("python", "-m", "training.compare", "experiment", "=", "a"), "algorithms"),
    ],
)
def test_bash_completes(script: Path, words: tuple[str, ...], offered: str) -> None:
    assert offered in complete(script, *words)


def test_every_command_of_training_is_offered(script: Path) -> None:
    commands = {words.removeprefix("python -m ") for words in COMMANDS.values() if " training." in words}
    assert set(complete(script, "python", "-m", "training.")) == commands


def test_what_is_none_of_ours_is_left_to_bash(script: Path) -> None:
    assert complete(script, "python", "script.py", "--he") == []
