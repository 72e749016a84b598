"""What became of the pods that were decided on, for the decision log.

`server.scoring` says which pods these are, `cluster.feed` where they went and when they were gone. Pods that are
forgotten, because there were too many or the extender was restarted, have no outcome in the log.
"""

from collections import OrderedDict
from collections.abc import Callable

from extender.telemetry.decision_records import BoundRecord, EndedRecord

REMEMBERED_AT_MOST = 200_000  # about 40 MB


class Outcomes:
    """Follows pods from the first question about them to their end."""

    def __init__(self, clock: Callable[[], float], append: Callable[[BoundRecord | EndedRecord], None]) -> None:
        """Know no pod.

        Args:
            clock: Unix seconds.
            append: takes what is to be written down.
        """
        self._clock = clock
        self._append = append
        self._decided: OrderedDict[str, tuple[str, float]] = OrderedDict()  # uid -> node, and since when it is there

    def decided(self, uid: str) -> None:
        """The pod was decided on."""
        self._decided.setdefault(uid, ("", 0.0))
        if len(self._decided) > REMEMBERED_AT_MOST:
            self._decided.popitem(last=False)

    def pod_on(self, uid: str, node: str, created: float, began: float) -> None:
        """The pod is on the node, perhaps not for the first time told.

        Args:
            uid: the pod's.
            node: where it is.
            created: when it was created, Unix seconds; 0.0 if that is not known.
            began: when it started to run, Unix seconds; 0.0 before it has.
        """
        known = self._decided.get(uid)
        if known is None:
            return
        now = self._clock()
        if not known[0]:
            self._append(BoundRecord(now, uid, node, round(now - created, 3) if created else -1.0))
        self._decided[uid] = node, began or known[1] or now

    def pod_left(self, uid: str) -> None:
        """The pod has ended or was deleted."""
        known = self._decided.pop(uid, None)
        if known is not None:
            node, since = known
            now = self._clock()
            self._append(EndedRecord(now, uid, node, round(now - since, 3) if node else -1.0))
