"""The command line: `stowage-extender serve`, `explain --pod NAMESPACE/NAME`, `check-policy FILE` and `completion`."""

import argparse
import asyncio
import ctypes
import gc
import http.client
import json
import logging
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import uvloop
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from extender import wire
from extender.closed_pipe import quiet_on_closed_pipe
from extender.completion import bash_script, of_parser
from extender.policies.base import PolicyError
from extender.policies.bundled import policy_path
from extender.policies.onnx import load_policy
from extender.server.explain import as_text
from extender.server.listening import StartError
from extender.server.run import Extender
from extender.settings import Settings, SettingsFileError, load
from extender.telemetry import logs

USAGE_ERROR = 2
PROGRAM = "stowage-extender"
EXPLAIN_SECONDS = 30.0
# How long a thread that examines a policy file or reads a list keeps the interpreter from one that answers a request.
# With Python's own 5 ms each of a request's waits for a socket can cost 5 ms meanwhile, and requests pile up.
SWITCH_SECONDS = 0.0005
# New objects after which Python looks for garbage among them. With its own 700 it does so hundreds of times while a
# list is read, and finds nothing: what is listed stays.
GARBAGE_AFTER = 20_000
# What glibc's mallopt is told (malloc.h): M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in bytes.
MALLOC = ((-8, 1), (-3, 256 * 1024), (-1, 8 * 1024 * 1024))

EXIT_STATUS = """\
exit status: 0 done; 2 it could not be done as asked, and stderr says why
"""

SERVE_EXAMPLES = """\
examples:
  stowage-extender serve --policy policy.onnx --kubeconfig ~/.kube/config
  stowage-extender serve --policy policy.onnx                  in a pod, with its service account
  stowage-extender serve --policy bundled:packing              a policy that comes with Stowage
  stowage-extender serve --policy heuristic:best-fit --cluster-file cluster.json --http-port 0 --grpc-port 0

When both servers listen and the cluster has been listed, one line goes to stdout:
  {"ready": true, "http": "127.0.0.1:8888", "grpc": "127.0.0.1:8889"}
Every flag can also be given in the environment (STOWAGE_HTTP_PORT=8888) or in the file of --config (http_port: 8888).
"""

EXPLAIN_EXAMPLES = """\
examples:
  stowage-extender explain --pod default/training-0
  stowage-extender explain --pod default/training-0 --json
  stowage-extender explain --pod default/training-0 --url https://10.0.0.7:8888 --ca ca.crt --cert tls.crt --key tls.key

Asks a running extender about its last answer for the pod: the nodes that it ranked, and what each feature has to do
with their scores.
"""

CHECK_EXAMPLE = """\
examples:
  stowage-extender check-policy policy.onnx
  stowage-extender check-policy bundled:latency

Prints one line of JSON.
"""

COMPLETION_EXAMPLES = """\
examples:
  source <(stowage-extender completion)
  stowage-extender completion > ~/.local/share/bash-completion/completions/stowage-extender
  python -m training.completion          for the commands of training as well
"""


@quiet_on_closed_pipe
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, or 2 if it could not be run as it was given."""
    parser = command_parser()
    given = parser.parse_args(arguments)
    try:
        if given.command == "check-policy":
            return _check_policy(given.file)
        if given.command == "explain":
            return _explain(given)
        if given.command == "completion":
            sys.stdout.write(bash_script(of_parser(PROGRAM, parser), [PROGRAM]))
            return 0
        _serve(given)
    except (PolicyError, StartError, SettingsFileError, ExplainError) as error:
        return _fail(str(error))
    except ValidationError as error:
        return _fail(_describe(error))


def _serve(given: argparse.Namespace) -> NoReturn:
    flags = {name: getattr(given, name) for name in Settings.model_fields if getattr(given, name) is not None}
    config_file = given.config or os.environ.get("STOWAGE_CONFIG")
    settings = load(flags, Path(config_file) if config_file else None)
    logs.set_up(settings.log_level, settings.log_format)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it tells of its start and end, `run` tells as well
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(GARBAGE_AFTER)
    _allocate_sparingly()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))
    _leave()


async def _run(settings: Settings) -> None:
    await Extender(settings).run(_announce)


def _allocate_sparingly() -> None:
    """Keep the process from growing with each list that is read and each policy file that is tried.

    glibc gives each thread a heap of its own, and what that once took stays with it; all of ours do with one, as few
    ever allocate at once. And what a policy keeps of the nodes goes back to the system when the policy goes, which it
    does not where large arrays lie in the heap: there glibc puts them once it has seen one come and go. Where the C
    library is another one nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in MALLOC:
            mallopt(parameter, value)


def _leave() -> NoReturn:
    """End the process, not the interpreter: all that was to be stopped and written has been.

    A computation of a policy that was given up may still run. Were it to end while the libraries are taken down, its
    thread would abort the process ("terminate called without an active exception").
    """
    logging.shutdown()
    os._exit(0)


def _announce(extender: Extender) -> None:
    gc.freeze()  # what was loaded and listed stays: to look through it for garbage would hold requests up
    ready = {"ready": True, "http": extender.http_address, "grpc": extender.grpc_address}
    sys.stdout.write(wire.encode_json(ready).decode() + "\n")
    sys.stdout.flush()


def _check_policy(setting: str) -> int:
    policy = load_policy(policy_path(setting))
    metadata = policy.metadata
    shown = {
        "name": policy.name,
        "digest": policy.digest,
        "resources": policy.resources,
        "features": len(metadata.feature_names),
        "algorithm": metadata.algorithm,
        "workload": metadata.workload,
        "code_version": metadata.code_version,
        "evaluation": metadata.evaluation,
    }
    sys.stdout.write(wire.encode_json(shown).decode() + "\n")
    return 0


class ExplainError(Exception):
    """The extender could not be asked, or knows nothing; the message says what was tried."""


def _explain(given: argparse.Namespace) -> int:
    url = f"{given.url}/explain?{urllib.parse.urlencode({'pod': given.pod})}"
    try:
        context = None
        if given.url.startswith("https:"):
            context = ssl.create_default_context(cafile=given.ca)
            if given.cert is not None:
                context.load_cert_chain(given.cert, given.key)
        with urllib.request.urlopen(url, timeout=EXPLAIN_SECONDS, context=context) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        raise ExplainError(f"{given.url}: {error.read().decode('utf-8', 'replace')}") from error
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:  # also of a certificate, of a port
        raise ExplainError(f"{given.url} cannot be asked: {error}; give --url of a running extender") from error
    sys.stdout.write(body.decode() + "\n" if given.json else as_text(json.loads(body)))
    return 0


def command_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Scores nodes for kube-scheduler with a policy trained in simulation.",
        epilog=f"{SERVE_EXAMPLES}\n{CHECK_EXAMPLE}\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="answer kube-scheduler until SIGTERM",
        description="Answers kube-scheduler over HTTP, and gRPC clients, until SIGTERM.",
        epilog=f"{SERVE_EXAMPLES}\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--config", metavar="FILE", help="YAML file with settings, named as the flags with _ for -")
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, PydanticUndefined) else f" (default: {field.default})"
        description = (field.description or "").replace("%", "%%")
        serve.add_argument(
            "--" + name.replace("_", "-"), dest=name, metavar=_metavar(field.annotation), help=description + default
        )
    explain = commands.add_parser(
        "explain",
        help="say why a pod was sent where it was",
        description="Asks a running extender about its last answer for a pod; exit status 2: it knows none.",
        epilog=f"{EXPLAIN_EXAMPLES}\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.add_argument("--pod", required=True, metavar="NAMESPACE/NAME", help="which pod")
    explain.add_argument("--url", default="http://127.0.0.1:8888", help="of the extender (default: %(default)s)")
    explain.add_argument("--json", action="store_true", help="print all of it, as GET /explain answers")
    explain.add_argument("--ca", metavar="FILE", help="certificates that the extender's is checked against")
    explain.add_argument("--cert", metavar="FILE", help="client certificate, where the extender wants one")
    explain.add_argument("--key", metavar="FILE", help="its key")
    check = commands.add_parser(
        "check-policy",
        help="verify a policy file before a rollout",
        description="Loads the file as serve would and prints what it is; exit status 2: serve would refuse it.",
        epilog=f"{CHECK_EXAMPLE}\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands.add_parser(
        "completion",
        help="print completion for bash and zsh",
        description="Prints a script that completes command lines, for bash, and for zsh after bashcompinit.",
        epilog=f"{COMPLETION_EXAMPLES}\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("file", metavar="FILE", help="policy file, or bundled:NAME")
    return parser


def _metavar(annotation: Any) -> str:
    if annotation is int:
        return "N"
    if annotation is float:
        return "SECONDS"
    return "FILE" if annotation == Path | None else "VALUE"


def _describe(error: ValidationError) -> str:
    """Each wrong setting in a line of its own: its name, what was given, what was expected."""
    lines = []
    for part in error.errors(include_url=False):
        name = ".".join(str(place) for place in part["loc"])
        first, *further = name.split(".")
        flag = ".".join(["--" + first.replace("_", "-"), *further]) if name else "settings"
        if part["type"] == "missing":
            lines.append(f"{flag} is missing: give the flag, or STOWAGE_{name.upper()}, or {name} in --config")
        elif part["type"] == "extra_forbidden":
            known = ", ".join(Settings.model_fields)
            lines.append(f"{name} is no setting: expected one of {known}")
        elif name:
            lines.append(f"{flag} is {part['input']!r}: {part['msg']}")
        else:
            lines.append(part["msg"].removeprefix("Value error, "))
    return "\n".join(lines)


def _fail(message: str) -> int:
    for line in message.splitlines():
        sys.stderr.write(f"stowage-extender: {line}\n")
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
