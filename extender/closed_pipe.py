"""What a command does when nobody reads on: `… --help | head -1` ends without a word, a full disk with one.

Python ignores SIGPIPE, so writing to a pipe whose reader has gone is an error, which comes once more when the
interpreter flushes what is left. Its own documentation advises to turn standard output to the null device then, and
not to let the signal end the process, which would end it for sockets too
(https://docs.python.org/3/library/signal.html#note-on-sigpipe). Here that is done where standard output is written,
and the command ends by `SystemExit`: no `except OSError` of the command takes it for an error of its own, and what has
to be taken down, as a cluster that was made, still is.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TextIO, TypeVar, cast

CLOSED_PIPE = 141  # 128 + SIGPIPE: what a shell says of programs that the signal has ended
FAILED = 1

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


def quiet_on_closed_pipe(main: Callable[Parameters, Answer]) -> Callable[Parameters, Answer]:
    """Let a command end when its standard output cannot be written.

    Args:
        main: entry of a command.

    Returns:
        the same; `SystemExit` comes out of it with 141 where the reader of standard output has gone, and with 1 and a
        line on standard error where it cannot be written for another reason.
    """

    @functools.wraps(main)
    def guarded(*arguments: Parameters.args, **options: Parameters.kwargs) -> Answer:
        before = sys.stdout
        # None: the command was started without one (`>&-`).
        output = _Output(before if before is not None else open(os.devnull, "w"))  # noqa: SIM115 (until the process ends)
        sys.stdout = cast(TextIO, output)
        try:
            return main(*arguments, **options)
        finally:
            sys.stdout = before
            output.flush()

    return guarded


class _Output:
    """Standard output that ends the command when it cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._end(error)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._end(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _end(self, error: OSError) -> NoReturn:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise SystemExit(CLOSED_PIPE) from error
        sys.stderr.write(f"standard output cannot be written: {error.strerror}\n")
        raise SystemExit(FAILED) from error
