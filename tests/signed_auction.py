"""One auction of honest nodes, with every message that they sign.

Spec: specs/auction.md. The decision is the requester's own machine's.
"""

from collections.abc import Sequence
from typing import Any

from protocol.machines.context import Context
from protocol.machines.effects import Send
from protocol.machines.requester import award
from protocol.machines.requester.auction import Auction, Decided, Opening
from protocol.machines.requester.auction.deciding import decide
from protocol.machines.requester.auction.states import Commitment
from protocol.rules.commitment import commitment_of
from protocol.rules.selection import Offer
from protocol.rules.start_promise import weight_with_start
from protocol.rules.verification import OpenedBid
from protocol.values.ids import CallId, JobId, PeerId
from protocol.values.units import PPM
from protocol.wire.envelope import Signed, open_envelope
from protocol.wire.job import QUICK, VICKREY, Resources
from protocol.wire.messages import (
    NO_ID,
    Award,
    Bid,
    BidReveal,
    Call,
    CommitSet,
    Message,
)
from tests.driven import POLICY, START_MS
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

REQUESTER = SIGNERS[0]
CONTEXT = Context(START_MS, REQUESTER, POLICY)
NONCE = bytes([7]) * 32


class SignedAuction:
    """The bidders are SIGNERS[1], SIGNERS[2], and so on; each bids an ask for some slots."""

    def __init__(
        self, bids: Sequence[tuple[int, int]], *, slots: int = 1, unopened: int = 0,
        weights: Sequence[int] = (), profile: int = VICKREY, nonce: int = 0, gang: bool = False,
        regions: Sequence[str] = (), starts: Sequence[int] = (), start_percent: int = 0,
    ) -> None:  # fmt: skip
        """The last `unopened` of the bidders only commit.

        With `regions`, those of the bidders, each slot is in a region of its own. `starts` is what
        the bidders promise, in ms.
        """
        quick = profile == QUICK
        windows = (100, 0 if quick else 100)
        self.call: Signed[Call] = REQUESTER.sign(Call(
            bytes([nonce]) * 16, profile, START_MS, Resources(), 100, 600_000, *windows, 15_000,
            0 if quick else 1, bytes(32), 0, slots=slots, gang=gang,
            spread=bool(regions), start_percent=start_percent,
        ))  # fmt: skip
        self.call_id = CallId(self.call.content_id)
        self._bids = [
            Bid(ask, "embedded", 1, 10_000, 35_000, 0, many, region, start_ms)
            for (ask, many), region, start_ms in zip(
                bids, regions or [""] * len(bids), [*starts, *[0] * len(bids)], strict=False
            )
        ]
        self._weights = [*weights, *[PPM] * len(bids)][: len(bids)]
        self.commit_set: Signed[CommitSet] | None = None if quick else self._closed()
        self.reveals = [self._reveal(number) for number in range(len(bids))]
        self.opened = len(bids) - unopened
        self.decided, effects = decide(self._opening(), CONTEXT)
        told = [effect.envelope for effect in effects if isinstance(effect, Send)]
        self.outcome: Signed[Any] = open_envelope(told[0], REQUESTER.network_id, PeerId(""))

    def bid(self, number: int) -> OpenedBid:
        """Return the bid of a bidder, counted from 1."""
        return OpenedBid(self.call, self.commit_set, self.reveals[number - 1])

    def awards(self) -> list[tuple[OpenedBid, Signed[Award]]]:
        """Return each award of a sold slot, and the bid that it is for."""
        decided, made = self.decided, []
        if isinstance(decided, Decided):
            for slot in decided.sold:
                decided, _, (*_, send) = award.begin(decided, slot, (JobId(bytes(16)), 0), CONTEXT)
                assert isinstance(send, Send)
                signed: Any = open_envelope(send.envelope, REQUESTER.network_id, PeerId(""))
                made.append((self.bid(self._number_of(slot.provider)), signed))
        return made

    def told(self, message: Message) -> Signed[Any]:
        """Return a message that the requester signs."""
        return REQUESTER.sign(message)

    def _number_of(self, peer: PeerId) -> int:
        return next(n for n, signer in enumerate(SIGNERS) if signer.peer_id == peer)

    def _commitment(self, number: int) -> bytes:
        bidder = SIGNERS[number + 1].peer_id
        return commitment_of(self.call_id, bidder, self._bids[number], NONCE)

    def _closed(self) -> Signed[CommitSet]:
        pairs = sorted((self._commitment(n), w) for n, w in enumerate(self._weights))
        digests, weights = zip(*pairs, strict=True)
        return REQUESTER.sign(CommitSet(self.call_id, digests, weights))

    def _reveal(self, number: int) -> Signed[BidReveal]:
        set_id = self.commit_set.content_id if self.commit_set else NO_ID
        reveal = BidReveal(self.call_id, set_id, self._bids[number], NONCE)
        return SIGNERS[number + 1].sign(reveal)

    def _opening(self) -> Opening:
        called = Auction(
            JobId(bytes(16)), job_spec(), self.call_id, self.call.message, self.call.envelope
        )
        commitments = tuple(
            Commitment(SIGNERS[number + 1].peer_id, self._commitment(number), weight)
            for number, weight in enumerate(self._weights)
        )
        offers = tuple(
            Offer(
                reveal.signer, reveal.message.bid, reveal.envelope,
                weight_with_start(weight, reveal.message.bid, self.call.message),
                reveal.content_id,
            )
            for reveal, weight in zip(self.reveals, self._weights, strict=True)
        )[: self.opened]  # fmt: skip
        set_id = self.commit_set.content_id if self.commit_set else NO_ID
        closed = commitments if self.commit_set else ()
        return Opening(called, START_MS, set_id, closed, (), offers)
