"""What strangers send comes in by the door: whole, signed, in time, or not at all.

Spec: specs/messages.md#intake.
"""

from dataclasses import replace

import pytest
import trio

from node.daemon import door as door_module
from node.daemon.clock import Clock
from node.daemon.door import LATE, REPEATS_MAX, TAKEN, Door
from protocol.core.presence import record_of
from protocol.machines.context import Context, Policy
from protocol.machines.inputs import Input
from protocol.rules.verdict import Verdict
from protocol.values.errors import PeerFault, Stale
from protocol.values.limits import CLOCK_SKEW_MS
from protocol.wire.envelope import Signed
from protocol.wire.messages import CapabilityRecord, Heartbeat
from tests.node.daemon.scene import ADA, BEA, EVE, LEASE
from tests.world import provider_policy


class Driver:
    def __init__(self) -> None:
        self.events: list[Input] = []
        self.full = False

    def give(self, event: Input) -> bool:
        if not self.full:
            self.events.append(event)
        return not self.full

    async def take(self, event: Input) -> None:
        await trio.lowlevel.checkpoint()
        self.events.append(event)


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def door(driver: Driver, clock: Clock) -> Door:
    return Door(driver, ADA, clock)


def record(clock: Clock, signer=BEA, policy: Policy | None = None, **changes) -> Signed:
    made = record_of(Context(clock.now_ms(), signer, policy or provider_policy()), 7)
    return signer.sign(replace(made, **changes))


async def test_a_message_is_answered_when_it_is_on_the_disk(door: Door, driver: Driver) -> None:
    signed = BEA.sign(Heartbeat(LEASE, 0, 1, 0))
    assert await door.answer(BEA.peer_id, signed.envelope) == TAKEN
    (event,) = driver.events
    assert (event.signer, event.message) == (BEA.peer_id, signed.message)


@pytest.mark.parametrize("data", [
    b"", b"\xff" * 100, b"\x00" * 200_000, bytes(range(256)),
    BEA.sign(Heartbeat(LEASE, 0, 1, 0)).envelope[:-1],
    BEA.sign(Heartbeat(LEASE, 0, 1, 0)).envelope[:-1] + b"\xff",
    EVE.sign(Heartbeat(LEASE, 0, 1, 0)).envelope,
])  # fmt: skip
async def test_what_breaks_the_spec_is_its_senders_fault(
    door: Door, driver: Driver, data: bytes
) -> None:
    with pytest.raises(PeerFault) as fault:
        await door.answer(BEA.peer_id, data)
    assert fault.value.peer == BEA.peer_id
    assert door.judge(BEA.peer_id, data) is Verdict.REJECT
    assert driver.events == []


async def test_what_is_late_is_said_to_be(door: Door, driver: Driver, clock: Clock) -> None:
    late = record(clock, issued_ms=clock.now_ms() - 2 * CLOCK_SKEW_MS, ttl_ms=0)
    assert await door.answer(BEA.peer_id, late.envelope) == LATE
    assert door.judge(BEA.peer_id, late.envelope) is Verdict.IGNORE
    with pytest.raises(Stale):
        door.take_record(BEA.peer_id, late.envelope)
    assert driver.events == []


async def test_gossip_is_passed_on_with_one_repetition(
    door: Door, driver: Driver, clock: Clock
) -> None:
    envelope = record(clock).envelope
    assert [door.judge(EVE.peer_id, envelope) for _ in range(REPEATS_MAX)] == [
        Verdict.ACCEPT
    ] * REPEATS_MAX
    assert door.judge(BEA.peer_id, envelope) is Verdict.IGNORE
    assert len(driver.events) == REPEATS_MAX


async def test_gossip_that_finds_no_room_is_dropped(
    door: Door, driver: Driver, clock: Clock
) -> None:
    driver.full = True
    assert door.judge(EVE.peer_id, record(clock).envelope) is Verdict.IGNORE


async def test_memory_of_gossip_is_bounded(
    door: Door, driver: Driver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "SEEN_MAX", 3)
    envelopes = [record(clock, sequence=number).envelope for number in range(1, 8)]
    assert [door.judge(EVE.peer_id, item) for item in envelopes] == [Verdict.ACCEPT] * 7
    assert len(door._seen) == 3
    for _ in range(REPEATS_MAX - 1):
        door.judge(EVE.peer_id, envelopes[-1])
    assert door.judge(EVE.peer_id, envelopes[-1]) is Verdict.IGNORE


async def test_records_of_the_dht(door: Door, driver: Driver, clock: Clock) -> None:
    signed = record(clock)
    assert door.sequence(BEA.peer_id, signed.envelope) == 7
    with pytest.raises(PeerFault):
        door.sequence(EVE.peer_id, signed.envelope)
    with pytest.raises(PeerFault):
        door.take_record(EVE.peer_id, signed.envelope)
    door.take_record(BEA.peer_id, signed.envelope)
    assert isinstance(driver.events[0].message, CapabilityRecord)
