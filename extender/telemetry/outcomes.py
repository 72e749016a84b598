"""What became of the pods that were decided on, for the decision log.

`server.scoring` says which pods these are, `cluster.feed` where they went and when they were gone. Pods that are
forgotten, because there were too many or the extender was restarted, have no outcome in the log.

kube-scheduler does not ask about a pod for which a single node is feasible. In a full cluster these are many, and a log
without them would tell of a workload that is lighter than it was; so they are followed from their binding on. They are
told from pods that another replica was asked about by whether anybody asks here.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

from extender.telemetry.decision_records import BoundRecord, EndedRecord, UnaskedRecord

REMEMBERED_AT_MOST = 200_000  # about 40 MB
ASKED_WITHIN = 600.0  # seconds; who has not been asked for so long is not the one that kube-scheduler asks

Unasked = Callable[[float], UnaskedRecord]
"""Makes the record of a pod, as of a time in Unix seconds."""


class Outcomes:
    """Follows pods from the first question about them to their end."""

    def __init__(
        self, clock: Callable[[], float], append: Callable[[UnaskedRecord | BoundRecord | EndedRecord], None]
    ) -> None:
        """Know no pod.

        Args:
            clock: Unix seconds.
            append: takes what is to be written down.
        """
        self._clock = clock
        self._append = append
        self._since = math.floor(clock())  # a pod's creation is told in whole seconds
        self._asked = -math.inf
        self._decided: OrderedDict[str, tuple[str, float]] = OrderedDict()  # uid -> node, and since when it is there

    def decided(self, uid: str) -> None:
        """The pod was decided on."""
        self._asked = self._clock()
        self._remember(uid)

    def _remember(self, uid: str) -> None:
        self._decided.setdefault(uid, ("", 0.0))
        if len(self._decided) > REMEMBERED_AT_MOST:
            self._decided.popitem(last=False)

    def pod_on(self, uid: str, node: str, created: float, began: float, unasked: Unasked | None = None) -> None:
        """The pod is on the node, perhaps not for the first time told.

        Args:
            uid: the pod's.
            node: where it is.
            created: when it was created, Unix seconds; 0.0 if that is not known.
            began: when it started to run, Unix seconds; 0.0 before it has.
            unasked: of a pod that kube-scheduler might have asked about.
        """
        now = self._clock()
        known = self._decided.get(uid)
        if known is None:
            # Those that were there before us may be in the log of an extender before us.
            if unasked is None or created < self._since or now - self._asked > ASKED_WITHIN:
                return
            self._append(unasked(now))
            self._remember(uid)
            known = self._decided[uid]
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
