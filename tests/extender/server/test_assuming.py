"""Whatever pods ask and the watch tells, in any order: what is counted is where pods are or were promised to be.

A machine of rules: pods ask, ask again, are left one node, are bound where they were promised or elsewhere, end, are
deleted, are told late or twice; lists come, and time passes. A model beside it knows where each pod counts.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from extender.cluster.feed import Gone, Kind, Listed, PodSeen
from extender.placement import ANY_DEVICE
from extender.server.answers import PodIdentity
from tests.extender.objects import request
from tests.extender.server.test_scoring import bench

SIZES = {"p": request(3000), "q": request(500, 0, 1, 600), "r": request(500, 0, 1, 400), "s": request(1000, 0, 1, 1000)}
TTL = 30.0
pods, nodes = st.sampled_from(sorted(SIZES)), st.sampled_from("ab")


class Assuming(RuleBasedStateMachine):
    """Two nodes with a device each, and four pods."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = bench()
        self.version = 100
        self.life: dict[str, int] = dict.fromkeys(SIZES, 0)  # a pod that comes back has another uid
        self.bound: dict[str, str] = {}  # uid -> node, as the API server has it
        self.promised: dict[str, tuple[str, float]] = {}  # uid -> node, until when
        self.told: list[PodSeen | Gone] = []

    def uid(self, pod: str) -> str:
        return f"{pod}-{self.life[pod]}"

    def tell(self, event: PodSeen | Gone) -> None:
        self.told.append(event)
        self.bench.feed.apply([event])

    def seen(self, pod: str, node: str, ended: bool = False) -> PodSeen:
        self.version += 1
        return PodSeen(self.uid(pod), node, SIZES[pod] if node else None, ended, self.version, False)

    def overdue(self) -> None:
        now = self.bench.now
        self.promised = {uid: promise for uid, promise in self.promised.items() if promise[1] > now}

    @rule(pod=pods)
    def ask(self, pod: str) -> None:
        uid = self.uid(pod)
        self.overdue()
        self.promised.pop(uid, None)
        ranked = self.bench.ask(PodIdentity("default", pod, uid), SIZES[pod])
        if ranked and uid not in self.bound:
            self.promised[uid] = ranked[0], self.bench.now + TTL

    @rule(pod=pods, node=nodes)
    def filter(self, pod: str, node: str) -> None:
        uid = self.uid(pod)
        self.overdue()
        self.promised.pop(uid, None)
        if self.bench.filter(PodIdentity("default", pod, uid), SIZES[pod], node) and uid not in self.bound:
            self.promised[uid] = node, self.bench.now + TTL

    @rule(pod=pods, node=nodes)
    def bind(self, pod: str, node: str) -> None:
        uid = self.uid(pod)
        if uid not in self.bound:
            self.promised.pop(uid, None)
            self.bound[uid] = node
            self.tell(self.seen(pod, node))

    @rule(pod=pods)
    def wait(self, pod: str) -> None:
        if self.uid(pod) not in self.bound:
            self.tell(self.seen(pod, ""))

    @rule(pod=pods, ended=st.booleans())
    def leave(self, pod: str, ended: bool) -> None:
        uid = self.uid(pod)
        self.version += 1
        self.bound.pop(uid, None)
        self.promised.pop(uid, None)
        self.tell(self.seen(pod, "", True) if ended else Gone(Kind.PODS, uid, self.version))
        self.life[pod] += 1

    @rule(data=st.data())
    def tell_late(self, data: st.DataObject) -> None:
        if self.told:
            self.bench.feed.apply([data.draw(st.sampled_from(self.told))])

    @rule()
    def list_anew(self) -> None:
        listed = [
            PodSeen(uid, node, SIZES[uid.split("-")[0]], False, self.version, True) for uid, node in self.bound.items()
        ]
        self.bench.feed.apply([*listed, Listed(Kind.PODS, frozenset(self.bound))])
        self.told.clear()  # a watch goes on from the list; what came before it comes no more

    @rule(seconds=st.sampled_from([1.0, 10.0, TTL]))
    def pass_time(self, seconds: float) -> None:
        self.bench.now += seconds
        self.bench.assumptions.expire()
        self.overdue()

    @invariant()
    def each_pod_counts_once_where_it_is_or_was_promised_to_be(self) -> None:
        state = self.bench.state
        expected = {uid: node for uid, (node, _) in self.promised.items()} | self.bound
        assert {uid: placed.node for uid, placed in state.pods.items()} == expected
        for node in "ab":
            here = [SIZES[uid.split("-")[0]] for uid, on in expected.items() if on == node]
            row = state.row_of(node)
            assert state.arrays.requested[row, 0] == sum(int(each.request[0]) for each in here)
            assert state.arrays.requested[row, 2] == sum(int(each.request[2]) for each in here)

    @invariant()
    def no_device_is_promised_twice(self) -> None:
        assert (self.bench.state.arrays.device_free[:2] >= ANY_DEVICE).all()
        for node in "ab":
            promised = [SIZES[uid.split("-")[0]] for uid, (on, _) in self.promised.items() if on == node]
            if not any(on == node for on in self.bound.values()):  # others may overbook what we promised
                assert sum(each.gpu_count * each.gpu_milli for each in promised) <= 1000


TestAssuming = Assuming.TestCase
TestAssuming.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
