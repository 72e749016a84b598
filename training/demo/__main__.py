"""Show a cluster while it is being scheduled, policies side by side, and past runs, in a browser.

    python -m training.demo
    python -m training.demo --port 8600 --runs /data/runs

The pages are served on the loopback interface only and fetch nothing from elsewhere; no usage statistics are sent.
Ctrl-C ends it. Needs the extra `demo` (`make demo` installs it).

Exit codes: 0 ended by Ctrl-C; 1 the server ended by itself; 2 the arguments were refused, or the extra is missing.
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from extender.closed_pipe import quiet_on_closed_pipe
from training.demo.views.variables import RUNS_VARIABLE

PORT = 8501
HOST = "127.0.0.1"
OPTIONS = {
    "server.address": HOST,
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "2",
    "browser.gatherUsageStats": "false",
    "browser.serverAddress": HOST,
    "client.toolbarMode": "minimal",
    "theme.primaryColor": "#2f7f9f",
    "theme.baseRadius": "small",
    "theme.light.backgroundColor": "#fbfbfa",
    "theme.light.secondaryBackgroundColor": "#f0f1f0",
    "theme.light.textColor": "#22282c",
    "theme.dark.backgroundColor": "#14181b",
    "theme.dark.secondaryBackgroundColor": "#1e2428",
    "theme.dark.textColor": "#dfe4e7",
}


def command(port: int) -> list[str]:
    """What serves the pages."""
    app = Path(__file__).with_name("app.py")
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    return [sys.executable, "-m", "streamlit", "run", str(app), f"--server.port={port}", *options]


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.demo",
        usage="%(prog)s [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help="where to listen (default: %(default)s)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="past runs (default: %(default)s)"
    )
    return parser


@quiet_on_closed_pipe
def main() -> int:
    """Entry of `python -m training.demo`."""
    given = argument_parser().parse_args()
    if importlib.util.find_spec("streamlit") is None:
        print(
            "training.demo: streamlit is not installed: pip install 'stowage[train,demo]', or make demo",
            file=sys.stderr,
        )
        return 2
    os.environ[RUNS_VARIABLE] = str(given.runs.absolute())
    serving = command(given.port)
    os.execv(serving[0], serving)  # so that Ctrl-C and signals reach the server itself


if __name__ == "__main__":
    sys.exit(main())
