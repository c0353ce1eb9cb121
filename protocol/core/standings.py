"""The standings of the peers that this node has dealt with, as many as it has room for.

Spec: specs/standing.md. Who has settled with us is read from the receipts after a restart;
strikes are forgotten by then.
"""

from collections.abc import Collection
from dataclasses import replace

from protocol.rules.standing import (
    STRANGER,
    Standing,
    answered,
    kept_unpaid,
    struck,
    unanswered,
)
from protocol.values.ids import PeerId
from protocol.values.limits import STANDINGS_MAX


class Standings:
    """Standings by peer. Strangers' strikes never push out a peer that has settled with us."""

    def __init__(self) -> None:
        self._settled: dict[PeerId, Standing] = {}
        self._strangers: dict[PeerId, Standing] = {}
        self._answering: dict[PeerId, None] = {}

    def of(self, peer: PeerId) -> Standing:
        """Return what we know of a peer."""
        return self._settled.get(peer) or self._strangers.get(peer, STRANGER)

    def answering(self) -> Collection[PeerId]:
        """Return the peers that answered a call before."""
        return self._answering.keys()

    def settle(self, peer: PeerId) -> None:
        """Remember that both of us have signed a receipt."""
        before = self.of(peer)
        self._strangers.pop(peer, None)
        self._keep(self._settled, peer, replace(before, settled=True, answers=True, unpaid=0))

    def strike(self, peer: PeerId, weight: int, now_ms: int) -> None:
        """Remember a fault; `weight` is in thousandths of a strike."""
        self._change(peer, struck(self.of(peer), weight, now_ms))

    def keep_unpaid(self, peer: PeerId, duration_ms: int, now_ms: int) -> None:
        """Remember for how long a peer kept our capacity without running a job."""
        self._change(peer, kept_unpaid(self.of(peer), duration_ms, now_ms))

    def hear_answer(self, peer: PeerId, now_ms: int, *, in_time: bool) -> None:
        """Remember that a peer answers calls."""
        before = self.of(peer)
        if (after := answered(before, now_ms, in_time=in_time)) != before:
            self._change(peer, after)

    def miss_answer(self, peer: PeerId, now_ms: int) -> None:
        """Remember that a peer was waited for in vain."""
        self._change(peer, unanswered(self.of(peer), now_ms))

    def _change(self, peer: PeerId, after: Standing) -> None:
        self._keep(self._settled if after.settled else self._strangers, peer, after)

    def _keep(self, known: dict[PeerId, Standing], peer: PeerId, standing: Standing) -> None:
        known.pop(peer, None)
        if len(known) >= STANDINGS_MAX:
            forgotten = next(iter(known))  # The one that was changed longest ago.
            del known[forgotten]
            self._answering.pop(forgotten, None)
        known[peer] = standing
        if standing.answers:
            self._answering[peer] = None
        else:
            self._answering.pop(peer, None)
