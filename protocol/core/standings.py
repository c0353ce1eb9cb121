"""The standings of peers that this node has dealt with, bounded in number.

Spec: specs/standing.md. After a restart, settled peers are read from the receipts; strikes
are lost.
"""

from collections.abc import Collection

from protocol.rules.standing import (
    STRANGER,
    Standing,
    aborted,
    answered,
    barred,
    kept_unpaid,
    late,
    settled,
    struck,
    tried,
    unanswered,
)
from protocol.values.ids import PeerId
from protocol.values.limits import STANDINGS_MAX


class Standings:
    """Standings by peer. Entries of strangers never evict a settled peer."""

    def __init__(self) -> None:
        self._settled: dict[PeerId, Standing] = {}
        self._strangers: dict[PeerId, Standing] = {}
        self._answering: dict[PeerId, None] = {}
        self.paid_ms = 0
        """The usage for which all peers together have paid this node."""

    def of(self, peer: PeerId) -> Standing:
        """Return the standing of a peer."""
        return self._settled.get(peer) or self._strangers.get(peer, STRANGER)

    def answering(self) -> Collection[PeerId]:
        """Return the peers that answered an earlier call."""
        return self._answering.keys()

    def settle(self, peer: PeerId, paid_ms: int = 0) -> None:
        """Record that both sides have signed a receipt, and the usage for which we were paid."""
        before = self.of(peer)
        self._strangers.pop(peer, None)
        self._keep(self._settled, peer, settled(before, paid_ms))
        self.paid_ms += paid_ms

    def strike(self, peer: PeerId, weight: int, now_ms: int) -> None:
        """Record a fault; `weight` is in thousandths of a strike."""
        self._change(peer, struck(self.of(peer), weight, now_ms))

    def note_job(self, peer: PeerId, now_ms: int, *, succeeded: bool) -> None:
        """Record whether a provider ran a job of ours to its end."""
        self._change(peer, tried(self.of(peer), now_ms, succeeded=succeeded))

    def note_late(self, peer: PeerId, now_ms: int) -> None:
        """Record that a provider started a job of ours later than it had promised."""
        self._change(peer, late(self.of(peer), now_ms))

    def note_abort(self, peer: PeerId, now_ms: int) -> None:
        """Record that a requester ended an auction without an outcome."""
        self._change(peer, aborted(self.of(peer), now_ms))

    def bar(self, peer: PeerId, called_ms: int) -> None:
        """Record that we can prove a fraud of a requester, in an auction of that time."""
        self._change(peer, barred(self.of(peer), called_ms))

    def keep_unpaid(self, peer: PeerId, duration_ms: int, now_ms: int) -> None:
        """Record how much a peer's ended lease left unpaid."""
        self._change(peer, kept_unpaid(self.of(peer), duration_ms, now_ms))

    def hear_answer(self, peer: PeerId, now_ms: int, *, in_time: bool) -> None:
        """Record that a peer answered a call."""
        before = self.of(peer)
        if (after := answered(before, now_ms, in_time=in_time)) != before:
            self._change(peer, after)

    def miss_answer(self, peer: PeerId, now_ms: int) -> None:
        """Record that an expected peer did not answer."""
        self._change(peer, unanswered(self.of(peer), now_ms))

    def _change(self, peer: PeerId, after: Standing) -> None:
        self._keep(self._settled if after.settled else self._strangers, peer, after)

    def _keep(self, known: dict[PeerId, Standing], peer: PeerId, standing: Standing) -> None:
        known.pop(peer, None)
        if len(known) >= STANDINGS_MAX:
            forgotten = next(iter(known))  # The least recently changed.
            del known[forgotten]
            self._answering.pop(forgotten, None)
        known[peer] = standing
        if standing.answers:
            self._answering[peer] = None
        else:
            self._answering.pop(peer, None)
