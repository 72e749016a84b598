"""The step `activate`: the policy file is replaced by the candidate.

It is one replacement of a file, which the extender takes over while it serves. It can be interrupted anywhere: the
policy before is kept in the cycle's folder, and `activated.json` tells what is about to be done before it is done. That
file stays whatever step is repeated, until `rollback` has put back what it tells of.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from extender.whole_file import put_whole
from training.cycle.contents import CANDIDATE, INCUMBENT
from training.cycle.records import (
    Book,
    CycleError,
    Found,
    GivenError,
    Say,
    TakenBackError,
    Verdict,
    digest,
    read_json,
    write_json,
)
from training.cycle.serving import Extender, refuse_what_was_taken_back, withdraw
from training.cycle.settings import Settings, required

ACTIVATED = "activated.json"


@dataclass(frozen=True)
class Activation:
    """What was put in the place of what.

    Attributes:
        target: the policy file.
        before: digest of what it was.
        candidate: digest of what was put there.
        earlier: the activation in the same cycle that put there what it was; None if there was none.
    """

    target: str
    before: str
    candidate: str
    earlier: "Activation | None" = None

    @classmethod
    def of(cls, book: Book) -> Self | None:
        """The one that stands in a cycle; raises GivenError where its file is none."""
        path = book.folder / ACTIVATED
        remedy = f"put the policy before back by hand, it is one of {book.folder}/before-*.onnx, and remove this file"
        content = read_json(path, remedy)
        try:
            return None if content is None else cls._read(content)
        except (TypeError, KeyError) as error:
            raise GivenError(f"{path} does not tell what was activated ({error}): {remedy}") from error

    @classmethod
    def _read(cls, content: dict[str, Any]) -> Self:
        earlier = content["earlier"]
        return cls(**content | {"earlier": None if earlier is None else cls._read(earlier)})

    def kept(self, book: Book) -> Path:
        """Where the cycle keeps the policy before."""
        return book.folder / f"before-{self.before[:16]}.onnx"


class RefusedError(CycleError):
    """The extender does not take a policy file."""


def activate(book: Book, settings: Settings, say: Say) -> Found:
    """Do the step activate.

    Raises:
        GivenError: a setting or the candidate is missing, or the policy file is not the one that was compared.
        TakenBackError: the cycle was rolled back.
        CycleError: the extender did not answer in time.
    """
    target = target_of(book, settings)
    candidate, incumbent = book.folder / CANDIDATE, book.folder / INCUMBENT
    before, now, here = digest(incumbent), digest(candidate), digest(target)
    extender = Extender(settings)
    old_refusal = str(extender.policy().get("last_refusal") or "") if here != now else ""
    with book.steering():
        refuse_what_was_taken_back(book)
        activation = _begun(book, str(target), before, now, in_place=here == now)
        if activation.before == before:
            put_whole(activation.kept(book), incumbent.read_bytes())
        write_json(book.folder / ACTIVATED, asdict(activation))
        if here != now:
            put_whole(target, candidate.read_bytes())
    say(f"activate: {target} is the candidate; waiting for the extender to take it over")
    try:
        answer = extender.until(
            lambda said: _serves(said, now, old_refusal),
            "to take the candidate into service",
            unless=lambda: refuse_what_was_taken_back(book),
        )
    except RefusedError as error:
        _leave(book, activation)
        withdraw(book)
        return Found(
            Verdict.REFUSED, f"the extender refuses it, and the policy before is back: {error}", {"file": str(target)}
        )
    except TakenBackError:
        raise  # the rollback has put the policy before back
    except CycleError as error:
        _leave(book, activation)
        raise CycleError(f"{error}; {target} is the policy before again") from error
    withdraw(book)
    figures = {
        "file": str(target),
        "since": answer["since"],
        "agreement_with_before": answer.get("agreement_with_before"),
    }
    return Found(
        Verdict.DONE, f"the extender serves the candidate ({now[:12]})", figures, {"policy": now, "before": before}
    )


def _begun(book: Book, target: str, before: str, candidate: str, *, in_place: bool) -> Activation:
    """The activation that begins, or that goes on where it has begun before."""
    standing = Activation.of(book)
    same = standing is not None and (standing.target, standing.candidate) == (target, candidate)
    if standing is not None and same and (in_place or standing.before == before):
        return standing
    return Activation(target, before, candidate, standing)


def _leave(book: Book, activation: Activation) -> None:
    """Put the policy before back where the extender does not take the candidate; what a rollback does stays."""
    with book.steering():
        if book.taken_back():
            return
        target = Path(activation.target)
        if target.is_file() and digest(target) == activation.candidate:
            put_whole(target, activation.kept(book).read_bytes())
        if activation.earlier is not None:
            write_json(book.folder / ACTIVATED, asdict(activation.earlier))
        else:
            (book.folder / ACTIVATED).unlink(missing_ok=True)


def outlook(settings: Settings) -> None:
    """Refuse what `activate` could not be done with, whatever comes of the steps before; nothing is touched.

    Raises:
        GivenError: a setting is missing, or the file that it names.
        CycleError: the extender does not answer.
    """
    _named_target(settings)
    Extender(settings).policy()


def check(book: Book, settings: Settings) -> None:
    """Refuse what `activate` could not be done with now; nothing is touched.

    Raises:
        GivenError: as for the step.
        CycleError: the extender does not answer.
    """
    target_of(book, settings)
    outlook(settings)


def target_of(book: Book, settings: Settings) -> Path:
    """The policy file, which has to be the incumbent of the cycle, or its candidate already.

    Raises:
        GivenError: it is not, or a file is missing.
    """
    target = _named_target(settings)
    candidate, incumbent = book.folder / CANDIDATE, book.folder / INCUMBENT
    if not candidate.is_file() or not incumbent.is_file():
        raise GivenError(f"{book.folder}: there is no candidate and incumbent: do the steps record and train first")
    before, here = digest(incumbent), digest(target)
    if here not in (before, digest(candidate)):
        raise GivenError(
            f"{target} is neither the incumbent nor the candidate of this cycle ({here[:12]}, where {before[:12]} was "
            "expected): somebody has replaced it since; begin another cycle"
        )
    return target


def _named_target(settings: Settings) -> Path:
    return required(settings.policy_file, "policy_file", "the policy file that the extender serves")


def _serves(answer: dict[str, Any], candidate: str, old_refusal: str) -> bool:
    """Whether the candidate is in service; raises RefusedError where the extender has refused it."""
    if answer["digest"] == candidate:
        return True
    refusal = str(answer.get("last_refusal") or "")
    if refusal and refusal != old_refusal:
        raise RefusedError(refusal)
    return False
