"""Where work is done that can be spread: in processes of this machine, or on a Ray cluster that is there already.

Evaluations, the populations of evolution strategies, sweeps and comparisons hand out their pieces in the same way: a
`crew` is told once what all pieces share, and then takes functions of that and of what is particular to a piece.
What a piece comes to does not depend on who does it.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

LAUNCHERS = ("processes", "ray")
Submit = Callable[..., "Future[Any]"]
"""Function, which gets what is shared before the other arguments, and those; to the future of what it returns."""


class LauncherError(RuntimeError):
    """There is nobody to do the work; the message says what to do."""


@contextmanager
def crew(launcher: str, workers: int, shared: Any) -> Iterator[Submit]:
    """Those who do the work, for the body of the `with`; what is unfinished at its end is given up.

    Args:
        launcher: `processes`, or `ray` for the cluster of RAY_ADDRESS, else the one that runs on this machine.
        workers: processes to start; how many work on a Ray cluster is its own matter, a CPU for each piece.
        shared: what every piece of work needs; it is sent once to every process.

    Raises:
        LauncherError: Ray is not installed, or there is no cluster.
    """
    if launcher == "ray":
        with _cluster(shared) as submit:
            yield submit
    else:
        with _processes(workers, shared) as submit:
            yield submit


@contextmanager
def _processes(workers: int, shared: Any) -> Iterator[Submit]:
    # A fork server that has imported everything once: its children start at once, and without this process's threads.
    forkserver = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forkserver else "spawn")
    if forkserver:
        context.set_forkserver_preload([type(shared).__module__])
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=_enter, initargs=(shared,))

    def submit(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        with deaf_to_interruption():
            return pool.submit(_carry_out, function, arguments)

    try:
        yield submit
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # what they do is of no use any more, and can take minutes
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def deaf_to_interruption() -> Iterator[None]:
    """Put off an interruption; processes that are started meanwhile stay deaf to it: it is for the one that waits."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_shared: Any = None  # of a process that works; set once when it starts


def _enter(shared: Any) -> None:
    global _shared
    _shared = shared
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _carry_out(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(_shared, *arguments)


@contextmanager
def _cluster(shared: Any) -> Iterator[Submit]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers about the cluster
    try:
        import ray
    except ImportError:
        raise LauncherError(
            "launcher=ray wants Ray, which is not installed: pip install 'stowage[distributed]'"
        ) from None
    if not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, logging_level="warning")
        except ConnectionError as error:
            raise LauncherError(
                f"no Ray cluster: set RAY_ADDRESS, or start one with `ray start --head` ({error})"
            ) from error
    reference = ray.put(shared)
    piece = ray.remote(num_cpus=1)(_carry_out_remotely)
    handed_out: list[Any] = []

    def submit(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        handed_out.append(piece.remote(reference.hex(), [reference], function, arguments))
        future: Future[Any] = handed_out[-1].future()
        return future

    try:
        yield submit
    except BaseException:
        for each in handed_out:
            ray.cancel(each, force=True)
        raise


_received: dict[str, Any] = {}  # of a process of the cluster: what was shared last, by its name


def _carry_out_remotely(name: str, shared: list[Any], function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    import ray

    if name not in _received:  # processes are used again: what is shared is unpacked once, with all that hangs on it
        _received.clear()
        _received[name] = ray.get(shared[0])
    return function(_received[name], *arguments)
