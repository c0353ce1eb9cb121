"""How far other providers are, measured in a bounded time, and not twice a minute.

Spec: specs/gangs.md#round-trip-query.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from node.messaging.measurer import AT_A_TIME, Measurer
from protocol.machines.effects import MeasureRoundTrips
from protocol.machines.inputs import RoundTripsMeasured
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import LeaseId, PeerId
from protocol.values.limits import MEASURE_MS, MEASURED_MS
from tests.node.fixtures import ADA, BEA, RecordedInbox

LEASE = LeaseId(bytes(32))


class _Clock:
    def now_ms(self) -> int:
        return int(trio.current_time() * 1000)


@dataclass
class _Network:
    """Peers and how far they are, in microseconds; others cannot be reached."""

    far_us: dict[PeerId, int] = field(default_factory=dict)
    asked: list[PeerId] = field(default_factory=list)
    busy: int = 0
    most: int = 0

    async def reach(self, peer: PeerId) -> None:
        self.asked.append(peer)
        if peer not in self.far_us:
            await trio.sleep(0.5)
            raise PeerUnreachable("nobody there")

    async def round_trip_us(self, peer: PeerId) -> int:
        self.busy += 1
        self.most = max(self.busy, self.most)
        await trio.sleep(self.far_us[peer] / 1_000_000)
        self.busy -= 1
        return self.far_us[peer]


@asynccontextmanager
async def measuring(network: _Network) -> AsyncIterator[tuple[Measurer, RecordedInbox]]:
    inbox = RecordedInbox()
    measurer = Measurer(network, _Clock(), inbox)
    async with trio.open_nursery() as nursery:
        await nursery.start(measurer.run)
        yield measurer, inbox
        nursery.cancel_scope.cancel()


def wanted(*peers: PeerId) -> MeasureRoundTrips:
    return MeasureRoundTrips(LEASE, peers, _Clock().now_ms() + MEASURE_MS)


async def test_all_are_measured_in_their_order(autojump_clock: object) -> None:
    network = _Network({ADA.peer_id: 83_000, BEA.peer_id: 7_000})
    async with measuring(network) as (measurer, inbox):
        measurer.measure(wanted(ADA.peer_id, BEA.peer_id))
        found = await inbox.wait_for(RoundTripsMeasured)
    assert found == RoundTripsMeasured(LEASE, (83_000, 7_000))


async def test_who_cannot_be_reached_in_time_is_not_measured(autojump_clock: object) -> None:
    network = _Network({ADA.peer_id: 7_000})
    async with measuring(network) as (measurer, inbox):
        begun_s = trio.current_time()
        measurer.measure(wanted(ADA.peer_id, BEA.peer_id))
        found = await inbox.wait_for(RoundTripsMeasured)
        took_ms = (trio.current_time() - begun_s) * 1000
    assert found == RoundTripsMeasured(LEASE, (7_000, 0))
    assert MEASURE_MS - 1_000 <= took_ms <= MEASURE_MS + 100
    assert len(network.asked) > 5, "tried again and again"


async def test_who_can_be_reached_a_little_later_is_measured(autojump_clock: object) -> None:
    network = _Network()
    async with measuring(network) as (measurer, inbox):
        measurer.measure(wanted(BEA.peer_id))
        await trio.sleep(2)
        network.far_us[BEA.peer_id] = 7_000
        found = await inbox.wait_for(RoundTripsMeasured)
    assert found == RoundTripsMeasured(LEASE, (7_000,))


async def test_nothing_is_measured_twice_within_a_minute(autojump_clock: object) -> None:
    network = _Network({BEA.peer_id: 7_000})
    async with measuring(network) as (measurer, inbox):
        measurer.measure(wanted(BEA.peer_id))
        await trio.sleep(MEASURED_MS / 1000 - 1)
        network.far_us[BEA.peer_id] = 83_000
        measurer.measure(wanted(BEA.peer_id))
        await trio.sleep(2)
        measurer.measure(wanted(BEA.peer_id))
        await trio.sleep(2)
    assert [found.round_trips_us for found in inbox.events] == [(7_000,), (7_000,), (83_000,)]
    assert len(network.asked) == 2


async def test_those_who_cannot_be_reached_delay_nobody(autojump_clock: object) -> None:
    lost = [PeerId(f"lost {number}") for number in range(20)]
    network = _Network({BEA.peer_id: 7_000})
    async with measuring(network) as (measurer, inbox):
        measurer.measure(wanted(*lost, BEA.peer_id))
        found = await inbox.wait_for(RoundTripsMeasured)
    assert found == RoundTripsMeasured(LEASE, (*(0,) * 20, 7_000))


async def test_few_are_measured_at_the_same_time(autojump_clock: object) -> None:
    peers = [PeerId(f"peer {number}") for number in range(63)]
    network = _Network(dict.fromkeys(peers, 50_000))
    async with measuring(network) as (measurer, inbox):
        measurer.measure(wanted(*peers))
        found = await inbox.wait_for(RoundTripsMeasured)
    assert found == RoundTripsMeasured(LEASE, (50_000,) * 63)
    assert network.most == AT_A_TIME
