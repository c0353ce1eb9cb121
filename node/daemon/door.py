"""The node's door: what peers send comes in here, and nowhere else.

Spec: specs/messages.md#intake. A message over a stream is acknowledged after what it caused is on
the disk. Gossip gets its verdict at once, and is handed on to the driver if it is new.
"""

import logging
from collections import OrderedDict
from typing import Final

from node.daemon.clock import Clock
from node.daemon.driver import Driver
from protocol.core.intake import admit, admit_record
from protocol.rules.verdict import Verdict
from protocol.values.errors import PeerFault, Stale
from protocol.values.ids import ContentId, PeerId
from protocol.wire.envelope import Signer
from protocol.wire.messages import Carrier

LOG: Final = logging.getLogger(__name__)
TAKEN: Final = b"\x00"
LATE: Final = b"\x01"
SEEN_MAX: Final = 8_192
"""Announcements that we remember, not to pass them on for ever."""
REPEATS_MAX: Final = 2
"""A requester that hears nothing publishes its call once more; it must reach those behind us."""


class Door:
    """Admits strangers' bytes."""

    def __init__(self, driver: Driver, signer: Signer, clock: Clock) -> None:
        self._driver = driver
        self._network = signer.network_id
        self._clock = clock
        self._seen: OrderedDict[ContentId, int] = OrderedDict()

    async def answer(self, peer: PeerId, data: bytes) -> bytes:
        """Take a message over a stream; raise PeerFault if the peer broke the spec."""
        try:
            signed = admit(data, peer, Carrier.STREAM, self._network, self._clock.now_ms())
        except Stale as stale:
            LOG.debug("late message from %s: %s", peer, stale)
            return LATE
        LOG.debug("%s from %s", type(signed.message).__name__, peer)
        await self._driver.take(signed)
        return TAKEN

    def judge(self, peer: PeerId, data: bytes) -> Verdict:
        """Return the verdict on a gossiped message, and hand it on if it is new."""
        try:
            signed = admit(data, peer, Carrier.GOSSIP, self._network, self._clock.now_ms())
        except Stale as stale:
            LOG.debug("late gossip through %s: %s", peer, stale)
            return Verdict.IGNORE
        except PeerFault as fault:
            LOG.warning("bad gossip: %s", fault)
            return Verdict.REJECT
        times = self._seen.get(signed.content_id, 0)
        if times >= REPEATS_MAX:
            return Verdict.IGNORE
        self._seen[signed.content_id] = times + 1
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        return Verdict.ACCEPT if self._driver.give(signed) else Verdict.IGNORE

    def sequence(self, peer: PeerId, data: bytes) -> int:
        """Return the sequence number of a peer's record in the DHT; raise if it is not valid."""
        return admit_record(data, peer, self._network, self._clock.now_ms())

    def take_record(self, peer: PeerId, data: bytes) -> None:
        """Hand on a record that was looked up; raise PeerFault or Stale if it is not valid."""
        signed = admit(data, peer, Carrier.STREAM, self._network, self._clock.now_ms())
        self._driver.give(signed)
