"""The node's door: what peers send comes in here, and nowhere else.

Spec: specs/messages.md#intake. A message over a stream is acknowledged after what it caused is on
the disk. Gossip gets its verdict at once, and is handed on to the driver if it is new. Keys cost
nothing: what gossip brings of unknown signers is counted by who forwards it, and from where.
"""

import logging
from collections import OrderedDict
from typing import Final, Protocol

from node.daemon.clock import Clock
from node.daemon.driver import Driver, Queue
from node.network.allowances import Allowances
from protocol.core.intake import admit, admit_record
from protocol.rules.verdict import Verdict
from protocol.values.errors import PeerFault, Stale
from protocol.values.ids import ContentId, PeerId
from protocol.wire.envelope import Signed, Signer
from protocol.wire.messages import Call, CapabilityRecord, Carrier, Message

LOG: Final = logging.getLogger(__name__)
TAKEN: Final = b"\x00"
LATE: Final = b"\x01"
SEEN_MAX: Final = 8_192
"""Announcements that we remember, not to pass them on for ever."""
REPEATS_MAX: Final = 2
"""A requester that hears nothing publishes its call once more; it must reach those behind us."""
UNKNOWN_BURST: Final = 120  # Calls of unknown signers through one peer, and so many records;
UNKNOWN_PER_S: Final = 10  # ... in the long run. Those of one source: node/network/allowances.py.


class Acquaintance(Protocol):
    """What we know of peers."""

    def is_known(self, peer: PeerId) -> bool:
        """Say whether we have dealt with a peer."""
        ...

    def source_of(self, peer: PeerId) -> str:
        """Return from which source a peer is connected."""
        ...


class Door:
    """Admits strangers' bytes."""

    def __init__(
        self, driver: Driver, signer: Signer, clock: Clock, acquaintance: Acquaintance
    ) -> None:
        self._driver = driver
        self._is_known = acquaintance.is_known
        self._calls, self._records = (
            Allowances(UNKNOWN_BURST, UNKNOWN_PER_S, acquaintance.source_of) for _ in range(2)
        )
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
        await self._driver.take(signed, self._queue_of(signed))
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
        queue = self._queue_of(signed)
        if not (self._may_pass(peer, signed) and self._driver.give(signed, queue)):
            return Verdict.LATER
        self._seen[signed.content_id] = times + 1
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        return Verdict.ACCEPT

    def sequence(self, peer: PeerId, data: bytes) -> int:
        """Return the sequence number of a peer's record in the DHT; raise if it is not valid."""
        return admit_record(data, peer, self._network, self._clock.now_ms())

    def take_record(self, peer: PeerId, data: bytes) -> None:
        """Hand on a record that was looked up; raise PeerFault or Stale if it is not valid."""
        signed = admit(data, peer, Carrier.STREAM, self._network, self._clock.now_ms())
        self._driver.give(signed, Queue.RECORDS)

    def _may_pass(self, forwarder: PeerId, signed: Signed[Message]) -> bool:
        """Say whether a peer may pass on one more of the kind."""
        if self._is_known(signed.signer):
            return True
        allowed = self._calls if isinstance(signed.message, Call) else self._records
        return allowed.take(forwarder, 1) == 1

    def _queue_of(self, signed: Signed[Message]) -> Queue:
        match signed.message:
            case CapabilityRecord():
                return Queue.RECORDS
            case Call():
                return Queue.CALLS if self._is_known(signed.signer) else Queue.STRANGERS
        return Queue.MAIN
