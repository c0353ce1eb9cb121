"""Counts bids that did not reach their requester, and warns the provider's owner.

Otherwise a provider that can reach no requester looks like one without work.
Spec: specs/operation.md#reachability.
"""

import logging
from typing import Final

from node.driver.clock import Clock
from protocol.values.bounded import keep_newest
from protocol.values.errors import PeerFault
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signer, open_envelope
from protocol.wire.messages import BidCommit, BidReveal

LOG: Final = logging.getLogger(__name__)
WARN_EVERY_MS: Final = 600_000
"""An unreachable requester can send calls at no cost: it must not flood the log."""
REQUESTERS_MAX: Final = 256


class Undelivered:
    """Counts the calls whose requester our bid did not reach, once each."""

    def __init__(self, signer: Signer, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock
        self._last: dict[PeerId, bytes] = {}
        self._warned_ms: int | None = None
        self.bids = 0
        """The count since the start."""

    def missed(self, peer: PeerId, envelope: bytes) -> None:
        """Record that a message did not reach a peer; only bids are counted."""
        own = self._signer
        try:
            message = open_envelope(envelope, own.network_id, own.peer_id).message
        except PeerFault:  # A stored message of an earlier version or another network.
            return
        if not isinstance(message, BidCommit | BidReveal):
            return
        if self._last.pop(peer, b"") != message.call_id:  # Commit and reveal are one bid.
            self.bids += 1
            self._warn(peer)
        self._last[peer] = message.call_id
        keep_newest(self._last, REQUESTERS_MAX)

    def _warn(self, peer: PeerId) -> None:
        now_ms = self._clock.now_ms()
        if self._warned_ms is not None and now_ms < self._warned_ms + WARN_EVERY_MS:
            return
        self._warned_ms = now_ms
        LOG.warning(
            "a bid did not reach its requester %s: there is no connection to it, and none could be"
            " made; if this continues, open the port of this node, and set network.announce to the"
            " address at which others reach it (%d bids so far)",
            peer,
            self.bids,
        )
