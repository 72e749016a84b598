"""Processes that a run starts beside itself."""

import subprocess

STOP_SECONDS = 10.0


def stop(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """End a process, politely first; one that has ended already is only collected."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
