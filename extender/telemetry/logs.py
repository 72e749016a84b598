"""Log lines, for people or as JSON; either tells which pod and which trace they are about.

A request's pod and trace are kept beside it while it is answered. The trace is the caller's: kube-scheduler and other
clients that trace send it as `traceparent` (W3C Trace Context), so that our lines are found with theirs.
"""

import logging
import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime

import msgspec

TEXT_FORMAT = "%(asctime)s %(levelname).1s %(name)s %(message)s"
TRACE_HEADER = "traceparent"

_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?\Z")
_trace: ContextVar[str] = ContextVar("trace", default="")
_pod: ContextVar[str] = ContextVar("pod", default="")


def about_trace(trace_parent: str) -> None:
    """Lines of this request from now on are about this trace.

    Args:
        trace_parent: value of the header; one that is malformed, or empty, means none.
    """
    found = _TRACE_PARENT.match(trace_parent) if trace_parent else None
    _trace.set(found[1] if found is not None and found[1].strip("0") and not trace_parent.startswith("ff") else "")


def in_trace(trace_id: str) -> None:
    """Lines of this request from now on are about the trace with this id (32 hexadecimal digits)."""
    _trace.set(trace_id)


def about_pod(namespace: str, name: str) -> None:
    """Lines of this request from now on are about this pod."""
    _pod.set(f"{namespace}/{name}" if name else "")


def trace_parent_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The header's value; empty without one.

    Example:
        >>> trace_parent_of([(b"host", b"x"), (b"traceparent", b"00-ab")])
        '00-ab'
    """
    wanted = TRACE_HEADER.encode()
    for name, value in headers:
        if name == wanted:
            return value.decode("ascii", "replace")
    return ""


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, logger, message; pod, trace_id and error where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in (("pod", _pod.get()), ("trace_id", _trace.get())) if value}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    """A line for people, with the pod and the trace at its end where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        about = [f"{name}={value}" for name, value in (("pod", _pod.get()), ("trace", _trace.get())) if value]
        line = super().format(record)
        return f"{line} [{' '.join(about)}]" if about else line


def set_up(level: str, form: str) -> None:
    """Write log lines to stderr.

    Args:
        level: the least severity that is written.
        form: "text" or "json".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(TEXT_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
