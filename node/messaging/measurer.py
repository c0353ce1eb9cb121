"""Measures how far other providers of a gang are.

Spec: specs/gangs.md#round-trips.
"""

import logging
from functools import partial
from typing import Any, Final, Protocol

import trio

from node.driver.background import Background
from node.driver.clock import Clock
from node.driver.driver import Inbox
from protocol.machines.effects import MeasureRoundTrips
from protocol.machines.inputs import RoundTripsMeasured
from protocol.values.bounded import keep_newest
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId
from protocol.values.limits import MEASURED_MS
from protocol.wire.messages import NOT_MEASURED

LOG: Final = logging.getLogger(__name__)
PAUSE_S: Final = 0.3
AT_A_TIME: Final = 8
"""The connected peers that are measured at once: more would delay each other's answers."""
KNOWN_MAX: Final = 1_024


class MeasuredNetwork(Protocol):
    """What a measurer needs of the network."""

    async def reach(self, peer: PeerId) -> None:
        """Connect with a peer if it is not connected; or raise PeerUnreachable."""
        ...

    async def round_trip_us(self, peer: PeerId) -> int:
        """Return a round trip to a peer in microseconds; or raise PeerUnreachable."""
        ...


class Measurer:
    """Measures round trips in the background, none twice within MEASURED_MS; tells the core."""

    def __init__(self, network: MeasuredNetwork, clock: Clock, inbox: Inbox) -> None:
        self._network = network
        self._clock = clock
        self._inbox = inbox
        self._background = Background()
        self._slots = trio.CapacityLimiter(AT_A_TIME)
        self._known: dict[PeerId, tuple[int, int]] = {}
        """Round trips, and when they were measured; the oldest first."""

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run all measurements, until cancelled."""
        await self._background.run(task_status)

    def measure(self, wanted: MeasureRoundTrips) -> None:
        """Begin to measure."""
        self._background.begin(partial(self._measure_all, wanted))

    async def _measure_all(self, wanted: MeasureRoundTrips) -> None:
        found: dict[PeerId, int] = {}

        async def measure(peer: PeerId) -> None:
            found[peer] = await self._measure(peer, wanted.until_ms)

        with trio.move_on_after((wanted.until_ms - self._clock.now_ms()) / 1000):
            async with trio.open_nursery() as nursery:
                for peer in wanted.peers:
                    nursery.start_soon(measure, peer)
        took = tuple(found.get(peer, NOT_MEASURED) for peer in wanted.peers)
        LOG.debug("round trips to the others of a gang, in microseconds: %s", took)
        await self._inbox.take(RoundTripsMeasured(wanted.lease_id, took))

    async def _measure(self, peer: PeerId, until_ms: int) -> int:
        """Return the round trip to a peer, which may not be reachable at once."""
        while self._clock.now_ms() < until_ms:
            known_us, at_ms = self._known.get(peer, (NOT_MEASURED, 0))
            if known_us != NOT_MEASURED and self._clock.now_ms() - at_ms < MEASURED_MS:
                return known_us
            try:
                await self._network.reach(peer)
                async with self._slots:
                    took_us = await self._network.round_trip_us(peer)
            except PeerUnreachable as error:
                LOG.debug("no round trip: %s", error)
                await trio.sleep(PAUSE_S)
            else:
                self._remember(peer, took_us)
                return took_us
        return NOT_MEASURED

    def _remember(self, peer: PeerId, took_us: int) -> None:
        self._known.pop(peer, None)
        self._known[peer] = took_us, self._clock.now_ms()
        keep_newest(self._known, KNOWN_MAX)
