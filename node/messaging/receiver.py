"""Receives what peers send: all of it comes in here, and nowhere else.

Spec: specs/messages.md#intake. A message over a stream is acknowledged after what it caused is on
the disk. Gossip gets its verdict at once, and is handed on to the driver if it is new. Keys cost
nothing: what gossip brings of unknown signers is counted by who forwards it, and from where.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from node.driver.clock import Clock
from node.driver.driver import Driver, Queue
from node.network.rate_limits import RateLimits, TokenBucket
from protocol.core.intake import admit, admit_record
from protocol.machines.inputs import RecordReceived
from protocol.rules.verdict import Verdict
from protocol.values.errors import PeerFault, Stale
from protocol.values.ids import ContentId, PeerId
from protocol.wire.envelope import Signed, Signer, claims
from protocol.wire.messages import Call, CapabilityRecord, Carrier, Message

LOG: Final = logging.getLogger(__name__)
TAKEN: Final = b"\x00"
LATE: Final = b"\x01"
SEEN_MAX: Final = 8_192
"""Announcements that we remember, not to pass them on for ever."""
REPEATS_MAX: Final = 2
"""A requester that hears nothing publishes its call once more; it must reach those behind us."""
UNKNOWN_BURST: Final = 120  # Calls of unknown signers through one peer, and so many records;
UNKNOWN_PER_S: Final = 10  # ... in the long run. Those of one source: node/network/rate_limits.py.
UNKNOWN_BURST_ALL: Final = 240  # Through all peers together: there may be any number of sources.
UNKNOWN_PER_S_ALL: Final = 20


class PeerInfo(Protocol):
    """What we know of peers."""

    def is_known(self, peer: PeerId) -> bool:
        """Say whether we have dealt with a peer."""
        ...

    def source_of(self, peer: PeerId) -> str:
        """Return from which source a peer is connected."""
        ...


class _Unknown:
    """How much of one kind of message of unknown signers we look at."""

    def __init__(self, source_of: Callable[[PeerId], str]) -> None:
        self._each = RateLimits(UNKNOWN_BURST, UNKNOWN_PER_S, source_of)
        self._all = TokenBucket(UNKNOWN_BURST_ALL, UNKNOWN_PER_S_ALL)

    def take(self, forwarder: PeerId) -> bool:
        return self._all.take(self._each.take(forwarder, 1)) == 1


class Receiver:
    """Admits messages of peers, and hands them on to the driver."""

    def __init__(self, driver: Driver, signer: Signer, clock: Clock, peers: PeerInfo) -> None:
        self._driver = driver
        self._is_known = peers.is_known
        self._source_of = peers.source_of
        self._unknown = {is_call: _Unknown(peers.source_of) for is_call in (True, False)}
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

    def screen(self, peer: PeerId, data: bytes) -> bool:
        """Say whether to look at a gossiped message: before any signature, which costs the most.

        A message that is none passes, for its judge to say so; and so does whoever claims to be
        a known signer and is none: that costs the peer that forwards it.
        """
        claimed = claims(data)
        if claimed is None or self._is_known(claimed[1]):
            return True
        return self._unknown[claimed[0] is Call].take(peer)

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
        if not self._give(signed, peer):
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
        self._give(signed, peer)

    def _give(self, signed: Signed[Message], forwarder: PeerId) -> bool:
        """Hand an announcement on, and where it came from; say whether there was room."""
        queue = self._queue_of(signed)
        match signed.message:
            case CapabilityRecord() as record:
                own = Signed(signed.signer, record, signed.envelope, signed.content_id)
                return self._driver.give(RecordReceived(own, self._source_of(forwarder)), queue)
        return self._driver.give(signed, queue)

    def _queue_of(self, signed: Signed[Message]) -> Queue:
        match signed.message:
            case CapabilityRecord():
                return Queue.RECORDS
            case Call():
                return Queue.CALLS if self._is_known(signed.signer) else Queue.STRANGERS
        return Queue.MAIN
