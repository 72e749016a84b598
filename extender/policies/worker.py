"""Calls that may hang, made in a thread that can be given up.

A policy file is data from outside, and the graph in it may run for hours. ONNX Runtime lets go of the interpreter while
it computes, so whoever waits for it elsewhere can stop waiting: `Worker.call` returns in time or raises. A call that
was given up is asked to end (`cancel`), its thread ends with it, and a new thread takes the next call. Those that never
end are counted; when there are too many, no further call is begun until one of them ends.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from extender.policies.base import PolicyError

HUNG_AT_MOST = 4  # each may keep a core busy

Result = TypeVar("Result")


class DeadlineError(PolicyError):
    """There was no answer in time, or there will be none."""


class Worker:
    """One thread at a time that makes calls.

    Example:
        >>> worker = Worker("adder")
        >>> worker.call(lambda: 1 + 1, until=time.perf_counter() + 10.0, cancel=lambda: None)
        2
        >>> worker.stop()
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._hung = 0
        self._thread: _Thread | None = None

    @property
    def hung(self) -> int:
        """Calls that were given up and have not ended yet."""
        return self._hung

    def call(self, work: Callable[[], Result], until: float, cancel: Callable[[], None]) -> Result:
        """Do the work in the thread and wait for it; for one caller at a time.

        Args:
            work: what may hang; what it raises is raised here.
            until: `time.perf_counter()` at which waiting ends.
            cancel: called when the work is given up, to make it end soon.

        Raises:
            DeadlineError: it took too long, or too many calls before it hang.
        """
        thread = self._thread
        if thread is None:
            if self._hung >= HUNG_AT_MOST:
                raise DeadlineError(f"{self._hung} calls that were given up have not ended: no further one is begun")
            thread = self._thread = _Thread(self._name, self._lock, self._has_ended)
        began = time.perf_counter()
        thread.work, thread.finished = work, False
        thread.begin.release()
        if not thread.done.acquire(timeout=max(until - began, 0.0)) and self._give_up(thread):
            cancel()
            raise DeadlineError(f"no answer within {1000.0 * (time.perf_counter() - began):.1f} ms")
        result, error = thread.result, thread.error
        thread.result = thread.error = None
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def stop(self) -> None:
        """End the thread; one that hangs ends with the process."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.work = None
            thread.begin.release()

    def _give_up(self, thread: "_Thread") -> bool:
        with self._lock:
            if not thread.finished:
                thread.given_up = True
                self._hung += 1
                self._thread = None
                return True
        thread.done.acquire()  # it ended in the moment that waiting did
        return False

    def _has_ended(self) -> None:
        self._hung -= 1


class _Thread(threading.Thread):
    """Does what it is handed, until it is given up or handed nothing."""

    def __init__(self, name: str, lock: threading.Lock, ended: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.work: Callable[[], Any] | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.begin, self.done = threading.Lock(), threading.Lock()  # locks change hands faster than conditions
        self.begin.acquire()
        self.done.acquire()
        self.finished = False
        self.given_up = False
        self._shared = lock
        self._ended = ended
        self.start()

    def run(self) -> None:
        """Wait for work, do it, say so."""
        while True:
            self.begin.acquire()
            work = self.work
            if work is None:
                return
            try:
                self.result = work()
            except BaseException as error:  # raised again by `Worker.call`
                self.error = error
            with self._shared:
                self.finished = True
                if self.given_up:
                    self._ended()
                    return
            self.done.release()
