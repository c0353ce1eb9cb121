"""What peers send is taken if it is whole, signed and in time, or not at all.

Spec: specs/messages.md#intake.
"""

from collections.abc import Iterable
from dataclasses import replace

import pytest
import trio

from node.driver.clock import Clock
from node.driver.driver import Queue
from node.messaging import receiver as door_module
from node.messaging.receiver import (
    LATE,
    REPEATS_MAX,
    TAKEN,
    UNKNOWN_BURST,
    UNKNOWN_BURST_ALL,
    UNKNOWN_PER_S,
    Receiver,
)
from node.network.rate_limits import PEERS_PER_SOURCE
from protocol.core.presence import record_of
from protocol.machines.context import Context, Policy
from protocol.machines.inputs import Input, RecordReceived
from protocol.rules.verdict import Verdict
from protocol.values.errors import PeerFault, Stale
from protocol.values.ids import PeerId, digest_of
from protocol.values.limits import CLOCK_SKEW_MS
from protocol.wire.envelope import KeySigner, Signed, Signer
from protocol.wire.job import Resources
from protocol.wire.messages import Call, Heartbeat
from tests.node.fixtures import ADA, BEA, EVE, LEASE, NETWORK
from tests.simulated_network import provider_policy


class Driver:
    def __init__(self) -> None:
        self.events: list[Input] = []
        self.queues: list[Queue] = []
        self.full = False
        self.committed = trio.Event()

    def give(self, event: Input, queue: Queue = Queue.MAIN) -> bool:
        if not self.full:
            self.events.append(event)
            self.queues.append(queue)
        return not self.full

    async def put(self, event: Input, queue: Queue = Queue.MAIN) -> trio.Event:
        await trio.lowlevel.checkpoint()
        self.events.append(event)
        self.queues.append(queue)
        return self.committed


class PeerInfo:
    """Ada knows Bea; who is not said to live elsewhere lives with all others."""

    def __init__(self) -> None:
        self.elsewhere: dict[PeerId, str] = {}

    def is_known(self, peer: PeerId) -> bool:
        return peer == BEA.peer_id

    def source_of(self, peer: PeerId) -> str:
        return self.elsewhere.get(peer, "here")


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def peers() -> PeerInfo:
    return PeerInfo()


@pytest.fixture
async def receiver(driver: Driver, clock: Clock, peers: PeerInfo) -> Receiver:
    return Receiver(driver, ADA, clock, peers)


def record(clock: Clock, signer=BEA, policy: Policy | None = None, **changes) -> Signed:
    made = record_of(Context(clock.now_ms(), signer, policy or provider_policy()), 7)
    return signer.sign(replace(made, **changes))


async def test_a_message_is_answered_when_it_is_on_the_disk(
    receiver: Receiver, driver: Driver
) -> None:
    signed = BEA.sign(Heartbeat(LEASE, 0, 1, 0))
    answer = await receiver.answer(BEA.peer_id, signed.envelope)
    (event,) = driver.events  # Queued, and the next message may be.
    with trio.move_on_after(0.01) as waiting:
        await answer()
    assert waiting.cancelled_caught
    driver.committed.set()
    assert await answer() == TAKEN
    assert (event.signer, event.message) == (BEA.peer_id, signed.message)


@pytest.mark.parametrize("data", [
    b"", b"\xff" * 100, b"\x00" * 200_000, bytes(range(256)),
    BEA.sign(Heartbeat(LEASE, 0, 1, 0)).envelope[:-1],
    BEA.sign(Heartbeat(LEASE, 0, 1, 0)).envelope[:-1] + b"\xff",
    EVE.sign(Heartbeat(LEASE, 0, 1, 0)).envelope,
])  # fmt: skip
async def test_what_breaks_the_spec_is_its_senders_fault(
    receiver: Receiver, driver: Driver, data: bytes
) -> None:
    with pytest.raises(PeerFault) as fault:
        await receiver.answer(BEA.peer_id, data)
    assert fault.value.peer == BEA.peer_id
    assert receiver.judge(BEA.peer_id, data) is Verdict.REJECT
    assert driver.events == []


async def test_what_is_late_is_said_to_be(receiver: Receiver, driver: Driver, clock: Clock) -> None:
    late = record(clock, issued_ms=clock.now_ms() - 2 * CLOCK_SKEW_MS, ttl_ms=0)
    assert await (await receiver.answer(BEA.peer_id, late.envelope))() == LATE
    assert receiver.judge(BEA.peer_id, late.envelope) is Verdict.IGNORE
    with pytest.raises(Stale):
        receiver.take_record(BEA.peer_id, late.envelope)
    assert driver.events == []


async def test_gossip_is_passed_on_with_one_repetition(
    receiver: Receiver, driver: Driver, clock: Clock
) -> None:
    envelope = record(clock).envelope
    assert [receiver.judge(EVE.peer_id, envelope) for _ in range(REPEATS_MAX)] == [
        Verdict.ACCEPT
    ] * REPEATS_MAX
    assert receiver.judge(BEA.peer_id, envelope) is Verdict.IGNORE
    assert len(driver.events) == REPEATS_MAX


async def test_gossip_that_finds_no_room_may_come_again(
    receiver: Receiver, driver: Driver, clock: Clock
) -> None:
    driver.full = True
    assert [receiver.judge(EVE.peer_id, record(clock).envelope) for _ in range(3)] == [
        Verdict.LATER
    ] * 3
    driver.full = False
    assert receiver.judge(EVE.peer_id, record(clock).envelope) is Verdict.ACCEPT


def call(clock: Clock, signer: Signer = EVE, number: int = 0) -> Signed:
    call = Call(
        number.to_bytes(16), 1, clock.now_ms(), Resources(), 1, 1_000, 100, 0, 2_000, 0,
        bytes(32), 0,
    )  # fmt: skip
    return signer.sign(call)


def stranger(number: int) -> Signer:
    return KeySigner(digest_of(b"stranger %d" % number), NETWORK)


def passed(receiver: Receiver, forwarder: PeerId, messages: Iterable[Signed]) -> int:
    """Return how many of the messages are looked at; all of these are accepted."""
    seen = [message for message in messages if receiver.screen(forwarder, message.envelope)]
    verdicts = {receiver.judge(forwarder, message.envelope) for message in seen}
    assert verdicts <= {Verdict.ACCEPT}
    return len(seen)


async def test_what_is_of_unknown_signers_is_counted_by_forwarder_and_source(
    receiver: Receiver, clock: Clock, peers: PeerInfo, monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:  # fmt: skip
    monkeypatch.setattr(door_module, "UNKNOWN_BURST_ALL", 10**6)
    receiver = Receiver(receiver._driver, ADA, clock, peers)
    names = [stranger(number).peer_id for number in range(2 * PEERS_PER_SOURCE)]
    calls = [call(clock, stranger(number)) for number in range(2 * UNKNOWN_BURST)]
    assert passed(receiver, names[0], calls) == UNKNOWN_BURST
    # Neither records nor who is known have to suffer for it.
    assert passed(receiver, names[0], [record(clock, EVE)]) == 1
    assert passed(receiver, names[0], [call(clock, BEA, number) for number in range(50)]) == 50
    # Another peer may pass the calls on that this one may not, but all of a source not more.
    assert passed(receiver, names[1], calls[UNKNOWN_BURST:]) == UNKNOWN_BURST
    more = [call(clock, EVE, number) for number in range(2 * PEERS_PER_SOURCE * UNKNOWN_BURST)]
    here = sum(passed(receiver, name, more[at :: len(names)]) for at, name in enumerate(names))
    assert here == (PEERS_PER_SOURCE - 2) * UNKNOWN_BURST
    assert passed(receiver, names[-1], more) == 0
    peers.elsewhere[EVE.peer_id] = "there"
    assert passed(receiver, EVE.peer_id, more[-1:]) == 1
    await trio.sleep(2)
    assert passed(receiver, names[0], more) == 2 * UNKNOWN_PER_S


async def test_unknown_signers_are_counted_together_wherever_they_are(
    receiver: Receiver, clock: Clock, peers: PeerInfo, autojump_clock: trio.testing.MockClock
) -> None:
    strangers = [stranger(number) for number in range(2 * UNKNOWN_BURST_ALL)]
    peers.elsewhere = {one.peer_id: f"home of {one.peer_id}" for one in strangers}
    looked_at = sum(passed(receiver, one.peer_id, [call(clock, one)]) for one in strangers)
    assert looked_at == UNKNOWN_BURST_ALL
    assert passed(receiver, strangers[0].peer_id, [call(clock, BEA), record(clock, EVE)]) == 2


async def test_who_claims_to_be_known_is_looked_at_and_found_out(
    receiver: Receiver, clock: Clock
) -> None:
    for _ in range(2 * UNKNOWN_BURST_ALL):
        receiver.screen(EVE.peer_id, call(clock).envelope)
    assert not receiver.screen(EVE.peer_id, call(clock).envelope)
    forged = call(clock, BEA).envelope[:-1] + b"\xff"
    for data in (forged, b"", b"\xff" * 100):
        assert receiver.screen(EVE.peer_id, data)
        assert receiver.judge(EVE.peer_id, data) is Verdict.REJECT


async def test_each_kind_waits_in_its_own_queue(
    receiver: Receiver, driver: Driver, clock: Clock
) -> None:
    for signed in (call(clock, BEA), call(clock, EVE), record(clock, EVE)):
        assert receiver.judge(EVE.peer_id, signed.envelope) is Verdict.ACCEPT
    await receiver.answer(BEA.peer_id, record(clock).envelope)
    await receiver.answer(BEA.peer_id, BEA.sign(Heartbeat(LEASE, 0, 1, 0)).envelope)
    assert driver.queues == [
        Queue.CALLS, Queue.STRANGERS, Queue.RECORDS, Queue.RECORDS, Queue.MAIN
    ]  # fmt: skip


async def test_memory_of_gossip_is_bounded(
    receiver: Receiver, driver: Driver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "SEEN_MAX", 3)
    envelopes = [record(clock, sequence=number).envelope for number in range(1, 8)]
    assert [receiver.judge(EVE.peer_id, item) for item in envelopes] == [Verdict.ACCEPT] * 7
    assert len(receiver._seen) == 3
    for _ in range(REPEATS_MAX - 1):
        receiver.judge(EVE.peer_id, envelopes[-1])
    assert receiver.judge(EVE.peer_id, envelopes[-1]) is Verdict.IGNORE


async def test_records_of_the_dht(receiver: Receiver, driver: Driver, clock: Clock) -> None:
    signed = record(clock)
    assert receiver.sequence(BEA.peer_id, signed.envelope) == 7
    with pytest.raises(PeerFault):
        receiver.sequence(EVE.peer_id, signed.envelope)
    with pytest.raises(PeerFault):
        receiver.take_record(EVE.peer_id, signed.envelope)
    receiver.take_record(BEA.peer_id, signed.envelope)
    assert driver.events == [RecordReceived(signed, "here")]


async def test_a_record_counts_on_the_source_of_who_forwards_it(
    receiver: Receiver, driver: Driver, peers: PeerInfo, clock: Clock
) -> None:
    peers.elsewhere[EVE.peer_id] = "there"
    signed = record(clock)
    assert receiver.judge(EVE.peer_id, signed.envelope) is Verdict.ACCEPT
    assert driver.events == [RecordReceived(signed, "there")]
