"""The command `rollback`: no candidate is tried any more, and the policy file is what it was before.

Everything is checked first, and a rollback that is refused leaves the cycle as it was. Then it is noted what is taken
back: from there on every other command keeps its hands off (`serving.refuse_what_was_taken_back`). Then the files are
put right, and the extender is waited for. Until that has confirmed it there is a note and no record: `status` shows the
rollback as unconfirmed, and the same command finishes it, and records what was taken back by all of them.
"""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from extender.whole_file import put_whole
from training.cycle.activation import ACTIVATED, Activation
from training.cycle.records import ROLLBACK, Book, CycleError, Found, GivenError, Record, Say, Verdict, digest
from training.cycle.serving import Extender, is_named, is_tried, tried_as, withdraw
from training.cycle.settings import Settings, keep


@dataclass(frozen=True)
class Plan:
    """What is taken back; the note of a rollback keeps it.

    Attributes:
        ours: the file under whose name the extender would try the cycle's candidate; empty if there is none.
        withdrawn: whether it is being tried.
        target: the policy file; empty if the cycle has activated nothing.
        policy: digest of what that is to be.
        replaced: digest of what was found in its place; empty if it was right already, or there was none.
        put_back: whether it is to be replaced.
    """

    ours: str = ""
    withdrawn: bool = False
    target: str = ""
    policy: str = ""
    replaced: str = ""
    put_back: bool = False

    @classmethod
    def of(cls, book: Book, *, force: bool) -> "Plan":
        """What there is to take back, with what an earlier rollback has taken back that was not confirmed.

        Raises:
            GivenError: somebody has replaced the policy file since, or the policy before is not kept any more.
        """
        begun = book.begun(ROLLBACK) or {}  # with nothing in it but its time where an older version has left it
        known = cls(**{each.name: begun[each.name] for each in fields(cls) if each.name in begun})
        known = replace(known, ours=known.ours or tried_as(book), withdrawn=known.withdrawn or is_tried(book))
        activation = Activation.of(book)
        if activation is None:
            return known
        target, before = Path(activation.target), activation.before
        known = replace(known, target=str(target), policy=before)
        here = digest(target) if target.is_file() else ""
        if here == before:
            return known
        if here not in {"", activation.candidate} and not force:
            raise GivenError(
                f"{target} is not the policy that this cycle activated ({here[:12]}): somebody has replaced it since; "
                "put the policy before back all the same with --force"
            )
        kept = activation.kept(book)
        if not kept.is_file() or digest(kept) != before:
            what = "does not hold" if kept.is_file() else "is not there, which held"
            raise GivenError(
                f"{kept} {what} the policy before ({before[:12]}): nothing was taken back; put that policy there, or "
                f"into the place of {target} by hand, and repeat rollback"
            )
        return replace(known, replaced=here, put_back=True)

    def carry_out(self, book: Book) -> None:
        """Put the files right."""
        withdraw(book)
        activation = Activation.of(book)
        if activation is None:
            return
        target = Path(activation.target)
        if not target.is_file() or digest(target) != activation.before:
            put_whole(target, activation.kept(book).read_bytes())

    def found(self, *, confirmed: bool) -> Found:
        """What the rollback comes to."""
        parts = ["the candidate is withdrawn"] * self.withdrawn + ["the policy before is back"] * self.put_back
        said = " and ".join(parts) or "there was nothing to take back"
        if not confirmed:
            said += "; no extender is set that could confirm it"
        figures = {"file": self.target, "replaced": self.replaced} if self.put_back else {}
        return Found(Verdict.DONE, said, figures, {"policy": self.policy} if self.policy else {})


def take_back(book: Book, settings: Settings, say: Say, *, force: bool) -> Record:
    """Roll back, whatever the cycle is at, also while another command is at work on it.

    Args:
        book: of the cycle.
        settings: of the cycle; kept when nothing speaks against it.
        say: told what is done.
        force: put the policy before back even if somebody has replaced the file since.

    Returns:
        the record; the one that is there where the cycle was rolled back before.

    Raises:
        GivenError: it cannot be done, and nothing was touched.
        CycleError: the extender has not confirmed it in time; the files are as they should be.
    """
    extender = None if settings.extender is None else Extender(settings)
    with book.steering():
        if (record := book.read(ROLLBACK)) is not None:
            say(f"rollback: {record.said} (done before)")
            return record
        plan = Plan.of(book, force=force)
        keep(book.folder, settings)
        book.note(ROLLBACK, **asdict(plan))
        plan.carry_out(book)
    if plan.policy:
        say(f"rollback: {plan.target} is the policy before ({plan.policy[:12]})")
    if extender is not None:
        _wait_for(extender, plan)
    (book.folder / ACTIVATED).unlink(missing_ok=True)
    record = book.close(ROLLBACK, {}, plan.found(confirmed=extender is not None))
    say(f"rollback: {record.said}")
    return record


def _wait_for(extender: Extender, plan: Plan) -> None:
    """Wait until the extender has taken over what the files say."""

    def is_back(answer: dict[str, Any]) -> bool:
        tried = answer.get("candidate")
        return (tried is None or not is_named(tried, plan.ours)) and plan.policy in ("", answer["digest"])

    try:
        extender.until(is_back, "to be back at the policy before")
    except CycleError as error:
        raise CycleError(
            "the files are as they should be, but the extender has not confirmed it; repeat rollback until it has: "
            f"{error}"
        ) from error
