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
from typing import Any

from extender.whole_file import put_whole
from training.cycle.records import ROLLBACK, Book, CycleError, GivenError, TakenBackError, digest
from training.cycle.settings import Settings

ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.5
NOTE = "candidate"  # of what was put there to be tried

Say = Callable[[str], None]


class Extender:
    """A running extender.

    Args:
        settings: where it is, and which files it looks at.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.extender is None:
            raise GivenError(
                "extender is not set: give extender=http://HOST:PORT, where the extender answers GET /policy"
            )
        self.address = settings.extender
        self._patience = settings.patience_seconds
        context = ssl.create_default_context(cafile=settings.extender_ca)
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
        before = book.begun(NOTE)
        if before is not None and before["file"] != str(path):
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
    note, tried = book.begun(NOTE), is_tried(book)
    if note is not None:
        if tried:
            Path(note["file"]).unlink(missing_ok=True)
        Path(note["policy"]).unlink(missing_ok=True)
        book.forget(NOTE)
    return tried


def is_tried(book: Book) -> bool:
    """Whether the candidate file names what this cycle has put beside it."""
    note = book.begun(NOTE)
    if note is None:
        return False
    try:
        content = json.loads(Path(note["file"]).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(content, dict) and content.get("policy") == Path(note["policy"]).name


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
