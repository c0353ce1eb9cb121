"""Slots of short jobs: the next job is ready when one ends, and never runs beside it.

Spec: specs/queue.md#successors.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.core.slots_in_use import CLASSES_REMEMBERED, SlotsInUse
from protocol.machines.events import Done, Retrying
from protocol.machines.provider.lease import Waiting
from protocol.machines.requester.auction import SoldSlot
from protocol.rules.selection import Price
from protocol.values.ids import CallId, ContentId, JobId, LeaseId
from protocol.values.limits import SHORT_MS, SUCCESSOR_MS
from protocol.values.reasons import Failure
from protocol.wire.messages import Award, Start
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node
from tests.strategies import SIGNERS

KEY = b"key"
ONE, TWO = LeaseId(b"1" * 32), LeaseId(b"2" * 32)
BEN, CLEO = SIGNERS[1].peer_id, SIGNERS[2].peer_id
SLOT = SoldSlot(
    CallId(bytes(32)), BEN, 10, 10_000, 0, Price(10, ()), 100, 0, 0, ContentId(bytes(32))
)
CHEAP = replace(SLOT, provider=CLEO, price=Price(5, ()))


def in_use(length_ms: int = 200) -> SlotsInUse:
    """Return two slots of a class whose jobs take so long."""
    slots = SlotsInUse()
    slots.note_length(KEY, length_ms)
    slots.begin(KEY, ONE, SLOT)
    slots.begin(KEY, TWO, CHEAP)
    return slots


# Which slots have successors.


def test_the_cheapest_slot_is_promised_first_and_each_once() -> None:
    slots = in_use()
    assert slots.take(KEY, ()) == replace(CHEAP, binding=False, after=TWO)
    assert slots.any_open()
    assert slots.take(KEY, (BEN,)) is None
    assert slots.take(KEY, ()) == replace(SLOT, binding=False, after=ONE)
    assert slots.take(KEY, ()) is None
    assert not slots.any_open()
    assert (slots.end(KEY, ONE), slots.end(KEY, TWO)) == (True, True)
    assert (slots.end(KEY, ONE), slots.end(KEY, TWO)) == (False, False)


def test_a_slot_that_is_given_back_ends_without_a_successor() -> None:
    slots = in_use()
    taken = slots.take(KEY, ())
    assert taken is not None
    assert slots.give_back(taken)
    assert not slots.give_back(taken)
    assert slots.take(KEY, (BEN,)) is None
    assert not slots.end(KEY, taken.after)


def test_a_slot_that_is_no_longer_used_cannot_be_given_back() -> None:
    slots = in_use()
    taken = slots.take(KEY, ())
    assert taken is not None
    assert slots.end(KEY, taken.after)
    assert not slots.give_back(taken)


@pytest.mark.parametrize("length_ms, any_open", [(SHORT_MS, True), (SHORT_MS + 1, False)])
def test_only_slots_of_short_jobs_have_successors(length_ms: int, any_open: bool) -> None:
    assert in_use(length_ms).any_open() == any_open
    assert not SlotsInUse().any_open()


def test_a_long_job_is_forgotten_in_time() -> None:
    slots = in_use(SUCCESSOR_MS)
    for _ in range(9):
        slots.note_length(KEY, 200)
    slots.begin(KEY, ONE, SLOT)
    assert slots.any_open()


def test_few_classes_are_remembered() -> None:
    slots = in_use()
    slots.end(KEY, ONE)
    slots.end(KEY, TWO)
    for number in range(CLASSES_REMEMBERED):
        slots.note_length(b"%d" % number, 200)
    slots.begin(KEY, ONE, SLOT)
    assert not slots.any_open()


# What becomes of them.


class Sweep:
    """One requester with many equal jobs, and providers with one processor each."""

    def __init__(self, providers: int = 1, jobs: int = 6, job_ms: int = 2_000) -> None:
        self.network = SimulatedNetwork(job_ms=job_ms)
        self.ann = self.network.add("ann")
        names = ("ben", "cleo")[:providers]
        self.providers = [self.network.add(name, provider_policy(cpus=1)) for name in names]
        self.network.meet()
        spec = job_spec(queue_ms=3_600_000)
        self.jobs = [self.network.submit(self.ann, spec) for _ in range(jobs)]

    def until(self, condition: Callable[[], bool], limit_ms: int = 600_000) -> None:
        assert self.network.run_until(condition, limit_ms)

    def successor(self) -> LeaseId | None:
        """Return the lease of a started job that waits for its slot at the first provider."""
        leases = self.providers[0].core.provider.leases
        waiting = [s for s in leases.values() if isinstance(s, Waiting) and s.told_to_start]
        return waiting[0].hold.lease_id if waiting else None

    def await_successor(self) -> LeaseId:
        """Let time pass until a successor waits; return its lease."""
        self.until(lambda: self.successor() is not None)
        found = self.successor()
        assert found is not None
        return found

    def all_end(self) -> None:
        ann, network = self.ann, self.network
        self.until(lambda: all(network.ended(ann, job_id) for job_id in self.jobs))

    def story(self, job_id: JobId, kind: type) -> list[object]:
        return [event for event in self.ann.disk.events.get(job_id, ()) if isinstance(event, kind)]

    def done(self) -> int:
        return sum(bool(self.story(job_id, Done)) for job_id in self.jobs)


def gaps(network: SimulatedNetwork, node: Node) -> list[int]:
    """Return the time between two containers of a node in ms; no two may run at once."""
    said = [(at_ms, line) for at_ms, line in network.log if line.startswith(f"{node.name}: ")]
    begun = [at_ms for at_ms, line in said if line.endswith("launches the container")]
    ended = [at_ms for at_ms, line in said if "the container ends" in line]
    assert len(begun) - len(ended) in {0, 1}
    found = [begin - end for begin, end in zip(begun[1:], ended, strict=False)]
    assert all(gap >= 0 for gap in found)
    return found


def test_the_next_short_job_begins_when_one_ends() -> None:
    sweep = Sweep()
    sweep.all_end()
    assert sweep.done() == 6
    first, *others = gaps(sweep.network, sweep.providers[0])
    assert first > 10, "that jobs are short is known after the first"
    assert others == [1] * 4, "the sandbox reports the end a millisecond later"


def test_long_jobs_have_no_successors() -> None:
    sweep = Sweep(job_ms=SHORT_MS + 1, jobs=3)
    sweep.all_end()
    assert min(gaps(sweep.network, sweep.providers[0])) > 10


@pytest.mark.parametrize("who", ["ann", "ben"])
def test_a_crash_while_a_successor_waits_runs_nothing_twice(who: str) -> None:
    sweep = Sweep()
    sweep.await_successor()
    node = sweep.ann if who == "ann" else sweep.providers[0]
    sweep.network.crash(node)
    sweep.network.restart(node)
    sweep.network.meet()
    sweep.all_end()
    assert sweep.done() == 6
    gaps(sweep.network, sweep.providers[0])


def test_a_successor_that_is_cancelled_frees_nothing() -> None:
    sweep = Sweep()
    (ben,) = sweep.providers
    lease_id = sweep.await_successor()
    job_id = sweep.ann.core.requester.leases.states[lease_id].lease.job_id
    sweep.network.cancel(sweep.ann, job_id)
    sweep.all_end()
    assert sweep.done() == 5
    assert lease_id not in ben.launched
    gaps(sweep.network, ben)


def test_a_job_that_is_cancelled_lets_its_successor_run() -> None:
    sweep = Sweep()
    (ben,) = sweep.providers
    following = sweep.await_successor()
    first = sweep.ann.core.requester.leases.states[following].lease.after
    job_id = sweep.ann.core.requester.leases.states[first].lease.job_id
    sweep.network.cancel(sweep.ann, job_id)
    sweep.until(lambda: following in ben.launched, 1_000)
    sweep.all_end()
    assert sweep.done() == 5
    gaps(sweep.network, ben)


def test_the_successor_of_a_slow_job_goes_elsewhere_at_no_cost() -> None:
    sweep = Sweep(jobs=4)
    (ben,) = sweep.providers
    sweep.until(lambda: sweep.done() == 1)
    sweep.network.job_ms = 60_000
    sweep.await_successor()
    sweep.until(lambda: any(sweep.story(job_id, Retrying) for job_id in sweep.jobs))
    told = [event for job_id in sweep.jobs for event in sweep.story(job_id, Retrying)]
    assert [(event.reason, event.amount) for event in told] == [(Failure.SLOT_BUSY, 0)]  # type: ignore[attr-defined]
    sweep.all_end()
    assert sweep.done() == 4
    gaps(sweep.network, ben)
    assert sweep.ann.core.standings.of(ben.peer_id).strikes == 0


def test_a_provider_that_is_lost_with_a_successor_loses_both_and_others_take_over() -> None:
    sweep = Sweep(providers=2, jobs=10)
    sweep.await_successor()
    sweep.network.crash(sweep.providers[0], machine=True)
    sweep.all_end()
    assert sweep.done() == 10
    gaps(sweep.network, sweep.providers[1])


def test_no_time_of_a_slot_is_paid_twice() -> None:
    """A provider that claims a successor's wait as usage is paid from its predecessor's end on."""
    sweep = Sweep()
    network, (ben,) = sweep.network, sweep.providers
    starts: list[int] = []

    def note(_sender: str, _receiver: str, message: object) -> bool:
        if isinstance(message, Start):
            starts.append(network.now_ms)
        return False

    network.drop = note
    following = sweep.await_successor()
    sweep.until(lambda: following in ben.launched)
    network.run(50)
    state = sweep.ann.core.requester.leases.states[following]
    begun_ms = ben.containers[following].started_ms
    assert starts[-1] < begun_ms - 1_000, "it was started while the other job ran"
    assert begun_ms - 50 <= state.since_ms <= begun_ms  # type: ignore[union-attr]


def test_only_one_award_takes_over_a_slot_and_only_of_its_own_requester() -> None:
    sweep = Sweep(jobs=3)
    network, (ben,) = sweep.network, sweep.providers
    eve = network.add("eve")
    network.meet()
    awards: list[Award] = []
    network.drop = lambda _s, _r, message: bool(
        isinstance(message, Award) and awards.append(message)
    )
    sweep.await_successor()
    used = len(ben.core.provider.leases)
    after = awards[-1].after
    assert after in ben.core.provider.leases
    forged = replace(awards[-1], slot=awards[-1].slot + 1)
    for who in (sweep.ann, eve):
        ben.core.handle(who.signer.sign(forged), network.now_ms)
        assert len(ben.core.provider.leases) == used
    assert sweep.successor() is not None


@given(seed=st.integers(0, 10**6), loss=st.sampled_from([0.0, 0.1, 0.3]))
def test_whatever_is_lost_no_two_share_a_slot_and_all_jobs_end(seed: int, loss: float) -> None:
    network = SimulatedNetwork(seed, loss=loss, doubled=0.1, delay_ms=(5, 400), job_ms=700)
    ann = network.add("ann")
    nodes = [network.add(name, provider_policy(cpus=1)) for name in ("ben", "cleo")]
    network.meet()
    jobs = [network.submit(ann, job_spec(queue_ms=3_600_000, retries=20)) for _ in range(8)]
    assert network.run_until(lambda: all(network.ended(ann, one) for one in jobs), 3_600_000)
    assert sum(len(gaps(network, node)) for node in nodes) >= len(jobs) - len(nodes)
