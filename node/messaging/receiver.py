"""Receives all messages of peers: the only entry.

Spec: specs/messages.md#intake. A message over a stream is acknowledged after its effects are on
the disk. Gossip gets its verdict at once, and is passed to the driver if it is new. Keys cost
nothing: gossip of unknown signers is counted by its forwarder and the forwarder's source.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import trio

from node.driver.clock import Clock
from node.driver.driver import Driver, Queue
from node.network.messages import Answer
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
"""The most announcements that we remember, to stop forwarding their repeats."""
REPEATS_MAX: Final = 2
"""A requester without bids publishes its call once more; we must forward the repeat too."""
UNKNOWN_BURST: Final = 120
"""The most calls of unknown signers through one peer at once, and as many records."""
UNKNOWN_PER_S: Final = 10
"""Their sustained rate. The limits of one source: node/network/rate_limits.py."""
UNKNOWN_BURST_ALL: Final = 240
"""The same through all peers together: the number of sources is unbounded."""
UNKNOWN_PER_S_ALL: Final = 20


class PeerInfo(Protocol):
    """What we know of peers."""

    def is_known(self, peer: PeerId) -> bool:
        """Return whether we have dealt with a peer."""
        ...

    def source_of(self, peer: PeerId) -> str:
        """Return the source from which a peer is connected."""
        ...


class _Unknown:
    """Limits the rate at which we process one kind of message of unknown signers."""

    def __init__(self, source_of: Callable[[PeerId], str]) -> None:
        self._each = RateLimits(UNKNOWN_BURST, UNKNOWN_PER_S, source_of)
        self._all = TokenBucket(UNKNOWN_BURST_ALL, UNKNOWN_PER_S_ALL)

    def take(self, forwarder: PeerId) -> bool:
        return self._all.take(self._each.take(forwarder, 1)) == 1


class Receiver:
    """Admits messages of peers, and passes them to the driver."""

    def __init__(self, driver: Driver, signer: Signer, clock: Clock, peers: PeerInfo) -> None:
        self._driver = driver
        self._is_known = peers.is_known
        self._source_of = peers.source_of
        self._unknown = {is_call: _Unknown(peers.source_of) for is_call in (True, False)}
        self._network = signer.network_id
        self._clock = clock
        self._seen: OrderedDict[ContentId, int] = OrderedDict()

    async def answer(self, peer: PeerId, data: bytes) -> Answer:
        """Queue a message over a stream; return its answer, which waits for its effects.

        Raises PeerFault if the peer broke the spec.
        """
        try:
            signed = admit(data, peer, Carrier.STREAM, self._network, self._clock.now_ms())
        except Stale as stale:
            LOG.debug("late message from %s: %s", peer, stale)
            return _late
        LOG.debug("%s from %s", type(signed.message).__name__, peer)
        taken = await self._driver.put(signed, self._queue_of(signed))
        return partial(_taken, taken)

    def screen(self, peer: PeerId, data: bytes) -> bool:
        """Return whether to judge a gossiped message; called before any costly signature check.

        A malformed message passes, so that `judge` rejects it; so does one that falsely claims a
        known signer: the peer that forwards it is blamed.
        """
        claimed = claims(data)
        if claimed is None or self._is_known(claimed[1]):
            return True
        return self._unknown[claimed[0] is Call].take(peer)

    def judge(self, peer: PeerId, data: bytes) -> Verdict:
        """Return the verdict on a gossiped message, and pass it to the driver if it is new."""
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
        """Pass a looked-up record to the driver; raise PeerFault or Stale if it is not valid."""
        signed = admit(data, peer, Carrier.STREAM, self._network, self._clock.now_ms())
        self._give(signed, peer)

    def _give(self, signed: Signed[Message], forwarder: PeerId) -> bool:
        """Pass an announcement, a record with its source, on; return whether there was room."""
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


async def _taken(taken: trio.Event) -> bytes:
    await taken.wait()
    return TAKEN


async def _late() -> bytes:
    await trio.lowlevel.checkpoint()
    return LATE
