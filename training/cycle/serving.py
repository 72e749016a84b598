"""The extender as the cycle steers it: by two files, and by looking at GET /policy whether it did what they say.

Both files are replaced whole. The policy file is what the extender serves; the candidate file names what is tried
beside it, `{"policy": FILE, "percent": 0}`, where the policy lies beside the candidate file under a name of its own.
"""

import json
import ssl
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from extender.whole_file import put_whole
from training.cycle.contents import CANDIDATE
from training.cycle.records import ROLLBACK, Book, CycleError, GivenError, TakenBackError, digest
from training.cycle.settings import Settings

ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.5
NOTE = "candidate"  # of what was put there to be tried
TORN_NOTE = "remove the note, and the candidate file that the extender looks at"


class Extender:
    """A running extender.

    Args:
        settings: where it is, and which files it looks at.

    Raises:
        GivenError: it is not said where it is, or there is no CA where one is named.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.extender is None:
            raise GivenError(
                "extender is not set: give extender=http://HOST:PORT, where the extender answers GET /policy"
            )
        self.address = settings.extender
        self._patience = settings.patience_seconds
        try:
            context = ssl.create_default_context(cafile=settings.extender_ca)
        except OSError as error:
            raise GivenError(
                f"extender_ca={settings.extender_ca}: {error}; expected a file with the CA of the extender's "
                "certificate (PEM)"
            ) from error
        # It is asked directly: an address in the cluster, or on loopback, needs no proxy.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def policy(self) -> dict[str, Any]:
        """What it says at GET /policy.

        Raises:
            CycleError: it does not answer.
        """
        try:
            with self._opener.open(f"{self.address}/policy", timeout=ANSWER_SECONDS) as response:
                answer: dict[str, Any] = json.load(response)
        except (OSError, ValueError) as error:
            raise CycleError(f"the extender at {self.address} does not answer GET /policy: {error}") from error
        return answer

    def until(
        self, holds: Callable[[dict[str, Any]], bool], what: str, unless: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Wait until what it says at GET /policy is as it should be; an extender that is away may come back.

        Args:
            holds: whether it is; raises what ends the waiting.
            what: is waited for, in words.
            unless: raises what ends the waiting, whatever the extender says.

        Raises:
            CycleError: it was not in time.
        """
        deadline, last = time.monotonic() + self._patience, ""
        while True:
            try:
                answer = self.policy()
            except CycleError as error:
                unless()
                last = str(error)
            else:
                unless()
                if holds(answer):
                    return answer
                last = f"it says {json.dumps(answer)}"
            if time.monotonic() > deadline:
                raise CycleError(f"waited {self._patience:g} s for the extender at {self.address} {what}; {last}")
            time.sleep(POLL_SECONDS)


def try_out(settings: Settings, book: Book, percent: float, policy: Path) -> str:
    """Say in the candidate file what is to be tried, and for how many pods; returns the policy's digest.

    Nothing is written where the file says that already: an extender that looks at it goes on as it is.

    Raises:
        GivenError: the setting is missing, or the cycle was rolled back.
    """
    path = candidate_file(settings)
    known = digest(policy)
    lying = path.parent / lying_name(known)
    text = (json.dumps({"policy": lying.name, "percent": percent}) + "\n").encode()
    with book.steering():
        refuse_what_was_taken_back(book)
        before = _put(book)
        if before is not None and before.file != path:
            withdraw(book)  # nobody would take it away any more
        if not lying.is_file() or digest(lying) != known:
            put_whole(lying, policy.read_bytes())
        book.note(NOTE, file=str(path), policy=str(lying))
        if not path.is_file() or path.read_bytes() != text:
            put_whole(path, text)
    return known


def refuse_what_was_taken_back(book: Book) -> None:
    """Raise TakenBackError where the cycle was rolled back, or is being so."""
    if book.read(ROLLBACK) is not None:
        raise TakenBackError(f"the cycle {book.folder.name} was rolled back: begin another one with --name")
    if book.taken_back():
        raise TakenBackError(
            f"the cycle {book.folder.name} was rolled back, which the extender has not confirmed yet: repeat rollback "
            "until it has, and begin another cycle with --name"
        )


def withdraw(book: Book) -> bool:
    """Remove the candidate file, and what this cycle had it point at; returns whether that was being tried.

    A candidate file that names another policy is somebody else's by now, and stays.
    """
    put, tried = _put(book), is_tried(book)
    if put is not None:
        if tried:
            put.file.unlink(missing_ok=True)
        put.policy.unlink(missing_ok=True)
        book.forget(NOTE)
    return tried


def is_tried(book: Book) -> bool:
    """Whether the candidate file names what this cycle has put beside it."""
    put = _put(book)
    if put is None:
        return False
    try:
        content = json.loads(put.file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(content, dict) and content.get("policy") == put.policy.name


def tried_as(book: Book) -> str:
    """The name of the file with which the extender tries this cycle's candidate, if it does; empty without one."""
    if (put := _put(book)) is not None:
        return put.policy.name
    candidate = book.folder / CANDIDATE
    return lying_name(digest(candidate)) if candidate.is_file() else ""


class _Put(NamedTuple):
    """What this cycle has put where the extender looks: the candidate file, and the policy that it names."""

    file: Path
    policy: Path


def _put(book: Book) -> _Put | None:
    note = book.begun(NOTE, TORN_NOTE)
    try:
        return None if note is None else _Put(Path(note["file"]), Path(note["policy"]))
    except (KeyError, TypeError) as error:
        raise GivenError(f"{book.folder}/{NOTE}.begun.json lacks {error}: {TORN_NOTE}") from error


def lying_name(known: str) -> str:
    """The name of the file with which the extender tries the policy with a digest."""
    return f"candidate-{known[:16]}.onnx"


def is_named(tried: dict[str, Any], lying: str) -> bool:
    """Whether what the extender says of a candidate is about the policy in a file: running, it lacks the suffix."""
    return str(tried["name"]).removesuffix(".onnx") == lying.removesuffix(".onnx")


def candidate_file(settings: Settings) -> Path:
    """Where the extender looks for what to try.

    Raises:
        GivenError: the setting is missing, or there is no such folder.
    """
    if settings.candidate_file is None:
        raise GivenError(
            "candidate_file is not set: give candidate_file=FILE, the one that the extender was told by --candidate"
        )
    path = Path(settings.candidate_file)
    if not path.parent.is_dir():
        raise GivenError(f"candidate_file={path}: there is no folder {path.parent}")
    return path
