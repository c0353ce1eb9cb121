"""Audits: a bidder compares its commit set with another bidder.

Spec: specs/auction.md#audits. The requester must not know whom: what it knows, it can arrange. So
neither the set nor the requester names the other one. It is found in our own directory, by a secret
of ours.
"""

from collections.abc import Collection
from itertools import islice
from typing import Final

from protocol.core.candidates import Candidates
from protocol.machines.context import Context
from protocol.machines.effects import Effect
from protocol.machines.provider import bidding
from protocol.rules.bucket import draw, full_bucket
from protocol.rules.verification import OpenedBid
from protocol.values.ids import PeerId
from protocol.values.limits import CHECKS_BURST, CHECKS_PER_MINUTE

CHOSEN_AMONG: Final = 32
"""The other bidder is one of so many that are near in the directory."""


class Audits:
    """Chooses when to compare a set, and with whom."""

    def __init__(self, candidates: Candidates, connected: Collection[PeerId]) -> None:
        self._candidates = candidates
        self._connected = connected
        self._bucket = full_bucket(CHECKS_BURST, CHECKS_PER_MINUTE, 0)

    def begin(self, bid: OpenedBid, context: Context) -> list[Effect]:
        """Show the set to which our bid was opened to one that may bid, too, or to nobody."""
        assert bid.commit_set is not None
        secret = context.signer.secret(b"audit", bid.commit_set.content_id)
        whether, start, which = (int.from_bytes(secret[at : at + 8]) for at in (0, 8, 16))
        if whether * 100 >= context.policy.audit_percent << 64:
            return []
        peer = self._choose(bid, start, which, context)
        if peer is None:
            return []
        self._bucket, allowed = draw(self._bucket, context.now_ms)
        return [bidding.show(bid.commit_set, peer, context)] if allowed else []

    def _choose(self, bid: OpenedBid, start: int, which: int, context: Context) -> PeerId | None:
        """Return another node that may bid, one that is connected if possible.

        A record proves nothing: its node may not exist.
        """
        known = self._candidates.rivals(bid.call, start, context)
        found = list(islice(known, CHOSEN_AMONG))
        near = [peer for peer in found if peer in self._connected] or found
        return near[which % len(near)] if near else None
