"""The provider's side of a node: who is answered, and what is never promised twice.

Spec: specs/core.md#provider.
"""

from dataclasses import replace
from typing import Any

import pytest

from protocol.core.candidates import Candidates
from protocol.core.directory import Directory
from protocol.core.provider import Provider
from protocol.core.standings import Standings
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Learn, Send
from protocol.machines.inputs import DeadlineReached, StopRequested
from protocol.machines.provider import lease
from protocol.machines.provider.bidding import Revealed, StandingBy
from protocol.rules.capacity import Capacity
from protocol.rules.commitment import commitment_of
from protocol.values.ids import CallId, LeaseId, lease_id_of
from protocol.values.reasons import Decline, Refusal, Release
from protocol.wire.envelope import Signed, open_envelope
from protocol.wire.job import QUICK, VICKREY, Resources
from protocol.wire.messages import (
    NO_ID,
    NO_LOSER,
    Award,
    AwardAccept,
    AwardDecline,
    Bid,
    BidCommit,
    BidRefusal,
    BidReveal,
    Call,
    Cancel,
    CommitSet,
    LeaseConfirm,
    LeaseRelease,
    Message,
    Outcome,
    Start,
    Winner,
)
from tests.driven import POLICY, START_MS
from tests.strategies import SIGNERS

CONTEXT = Context(START_MS, SIGNERS[0], POLICY)
ANN, AMY, EVE = SIGNERS[1:4]
CALL = Call(
    bytes(16), QUICK, START_MS, Resources(3), 9_000, 600_000, 1_200, 0, 6_000, 0, bytes(32), 0
)


WON = (Winner(SIGNERS[0].peer_id, 1),)


def fresh() -> Provider:
    """Return a provider that has dealt with nobody."""
    standings = Standings()
    return Provider(Candidates(Directory(), standings), standings, {}, {})


def later(ms: int) -> Context:
    return replace(CONTEXT, now_ms=START_MS + ms)


def call(who: Any = ANN, **more: Any) -> Signed[Call]:
    return who.sign(replace(CALL, **more))


def said(effects: list[Any]) -> list[Message]:
    return [
        open_envelope(effect.envelope, SIGNERS[0].network_id, effect.peer).message
        for effect in effects if isinstance(effect, Send)
    ]  # fmt: skip


def award_of(
    called: Signed[Call], who: Any = ANN, rate: int = 3_000, *,
    closed: Signed[CommitSet] | None = None, evidence: tuple[bytes, ...] = (),
    outcome: bytes = b"", offer: int = 0, provider: Provider | None = None,
) -> Signed[Award]:  # fmt: skip
    """Return an award of an auction whose bids were all opened, for the provider's bid.

    Without a provider, for the bid of one that has leased nothing.
    """
    call_id, set_id = CallId(called.content_id), closed.content_id if closed else NO_ID
    opened = tuple(range(len(closed.message.commitments))) if closed else ()
    losing = rate if evidence else NO_LOSER
    told = who.sign(Outcome(call_id, set_id, WON, rate, opened, losing)).envelope
    if provider is None:
        provider = fresh()
        provider.hear(called, CONTEXT)
        if closed:
            provider.hear(closed, CONTEXT)
    state = provider.biddings.get(call_id)
    bid = state.bid.reveal.content_id if isinstance(state, Revealed | StandingBy) else NO_ID
    return who.sign(Award(call_id, outcome or told, 0, 0, offer, rate, 0, evidence, bid))


def won(
    provider: Provider, who: Any = ANN, context: Context = CONTEXT, rate: int = 3_000, **more: Any
) -> LeaseId:
    """Let the provider win a quick auction."""
    called = call(who, **more)
    provider.hear(called, context)
    provider.hear(award_of(called, who, rate, provider=provider), context)
    return lease_id_of(CallId(called.content_id), 0, 0, 0, SIGNERS[0].peer_id)


# Calls.


def test_a_call_that_fits_gets_a_bid_once() -> None:
    provider, called = fresh(), call(where=f"cpus>=4 peer={SIGNERS[0].peer_id}")
    (bid,) = said(provider.hear(called, CONTEXT))
    assert isinstance(bid, BidReveal)
    assert bid.bid.ask == 3_000
    assert provider.hear(called, CONTEXT) == []


@pytest.mark.parametrize(
    "called, policy",
    [
        (call(SIGNERS[0]), POLICY),
        (call(resources=Resources(5)), POLICY),
        (call(region="br"), POLICY),
        (call(where="cpus>99"), POLICY),
        (call(), Policy()),
    ],
    ids=["our own", "too large", "elsewhere", "not selected", "not providing"],
)
def test_a_call_that_our_record_rules_out_gets_no_answer(
    called: Signed[Call], policy: Policy
) -> None:
    assert fresh().hear(called, replace(CONTEXT, policy=policy)) == []


def test_a_node_that_has_started_answers_no_call_from_before() -> None:
    """It may have bid, won and run the job: late copies of all messages would repeat it."""
    provider = fresh()
    provider.recover((), later(10))
    assert provider.hear(call(issued_ms=START_MS + 9), later(20)) == []
    assert provider.hear(call(issued_ms=START_MS + 10), later(20))


def test_whom_we_answer_we_can_reach() -> None:
    told = ("/ip4/192.0.2.1/tcp/1",)
    learnt = [effect for effect in fresh().hear(call(addresses=told), CONTEXT)
              if isinstance(effect, Learn)]  # fmt: skip
    assert learnt == [Learn(ANN.peer_id, told)]
    unfit = call(addresses=told, resources=Resources(5))
    assert fresh().hear(unfit, CONTEXT) == [], "nothing is learnt from whom we do not answer"


def test_who_is_too_expensive_says_so() -> None:
    cheap = call(rate_max=2_999)
    assert said(fresh().hear(cheap, CONTEXT)) == [
        BidRefusal(CallId(cheap.content_id), Refusal.PRICE)
    ]


def test_an_open_bid_takes_no_capacity_from_others() -> None:
    """Else who only ever asks could keep a node from working, and honest jobs each other."""
    provider = fresh()
    vickrey(provider, EVE, Bid(4_000, "embedded", 1, 10_000, 35_000, 0))
    assert provider.left(POLICY.capacity) == POLICY.capacity
    lease_id = won(provider, AMY)
    assert isinstance(provider.leases[lease_id], lease.Held)


def test_who_is_busy_says_so() -> None:
    provider = fresh()
    won(provider)
    assert said(provider.hear(call(AMY), CONTEXT)) == [
        BidRefusal(CallId(call(AMY).content_id), Refusal.BUSY)
    ]


def test_who_has_as_many_jobs_as_its_owner_wants_is_busy() -> None:
    provider, context = fresh(), replace(CONTEXT, policy=replace(POLICY, jobs_max=1))
    asked = call(AMY, resources=Resources(1))
    assert isinstance(said(provider.hear(asked, context))[0], BidReveal)
    won(provider, context=context)
    assert isinstance(
        said(provider.hear(call(EVE, resources=Resources(1)), context))[0], BidRefusal
    )
    (decline,) = said(provider.hear(award_of(asked, AMY, rate=1_000), context))
    assert isinstance(decline, AwardDecline)
    assert decline.reason == Decline.BUSY


# Awards.

OUTCOME = Outcome(CallId(call().content_id), NO_ID, WON, 3_000, (), NO_LOSER)


def test_an_award_makes_a_lease_and_holds_capacity() -> None:
    provider = fresh()
    called = call()
    provider.hear(called, CONTEXT)
    award = award_of(called)
    (accept,) = said(provider.hear(award, CONTEXT))
    lease_id = lease_id_of(CallId(called.content_id), 0, 0, 0, SIGNERS[0].peer_id)
    assert accept == AwardAccept(lease_id, award.content_id)
    assert provider.left(POLICY.capacity).cpus == 1
    assert provider.hear(award, CONTEXT) == [], "a repeated award changes nothing"


@pytest.mark.parametrize(
    "award, reason",
    [
        (award_of(call(), EVE), Decline.POLICY),
        (award_of(call(AMY)), Decline.POLICY),
        (award_of(call(), rate=2_999), Decline.EVIDENCE),
        (award_of(call(), rate=3_001), Decline.EVIDENCE),
        (award_of(call(), evidence=(b"noise",)), Decline.EVIDENCE),
        (award_of(call(), outcome=b"noise"), Decline.EVIDENCE),
        (
            award_of(call(), outcome=ANN.sign(replace(OUTCOME, opened=(0,))).envelope),
            Decline.EVIDENCE,
        ),
        (award_of(call(), outcome=EVE.sign(OUTCOME).envelope), Decline.EVIDENCE),
        (award_of(call(), outcome=ANN.sign(Start(bytes(32), 0)).envelope), Decline.EVIDENCE),
        (award_of(call(), evidence=(ANN.sign(Start(bytes(32), 0)).envelope,)), Decline.EVIDENCE),
    ],
)
def test_a_wrong_award_is_declined(award: Signed[Award], reason: Decline) -> None:
    provider = fresh()
    provider.hear(call(), CONTEXT)
    (decline,) = said(provider.hear(award, CONTEXT))
    assert isinstance(decline, AwardDecline)
    assert (decline.award, decline.reason) == (award.content_id, reason)
    assert not provider.leases


def test_a_bid_that_binds_no_longer_is_not_awarded() -> None:
    provider = fresh()
    provider.hear(call(), CONTEXT)
    (bidding,) = provider.biddings.values()
    assert isinstance(bidding, Revealed)
    over_ms = bidding.deadline_ms - START_MS
    (decline,) = said(provider.hear(award_of(call()), later(over_ms)))
    assert isinstance(decline, AwardDecline)


def vickrey(provider: Provider, who: Any, other: Bid) -> Signed[CommitSet]:
    """Take the provider through a commit-reveal auction with one other bidder."""
    called = call(who, profile=VICKREY, reveal_ms=900)
    call_id = CallId(called.content_id)
    (commit,) = said(provider.hear(called, CONTEXT))
    assert isinstance(commit, BidCommit)
    theirs = commitment_of(call_id, EVE.peer_id, other, bytes(32))
    closed = who.sign(CommitSet(call_id, tuple(sorted([commit.commitment, theirs]))))
    assert isinstance(said(provider.hear(closed, CONTEXT))[0], BidReveal)
    return closed


def test_two_open_bids_for_the_same_capacity_and_the_first_award_gets_it() -> None:
    """Bids reserve nothing, so that both may be opened: nobody crashes, one declines."""
    provider = fresh()
    first, second = (call(who, profile=VICKREY, reveal_ms=900) for who in (ANN, AMY))
    commits = [said(provider.hear(each, CONTEXT))[0].commitment for each in (first, second)]
    sets = [
        who.sign(CommitSet(CallId(called.content_id), (commitment,)))
        for who, called, commitment in zip((ANN, AMY), (first, second), commits, strict=True)
    ]
    for closed in sets:
        provider.hear(closed, CONTEXT)
    (accept,) = said(provider.hear(award_of(first, rate=9_000, closed=sets[0]), CONTEXT))
    assert isinstance(accept, AwardAccept)
    (decline,) = said(provider.hear(award_of(second, AMY, rate=9_000, closed=sets[1]), CONTEXT))
    assert isinstance(decline, AwardDecline)
    assert decline.reason == Decline.BUSY


def test_evidence_must_be_a_bid_of_another_under_the_set() -> None:
    provider, other = fresh(), Bid(4_000, "embedded", 1, 10_000, 35_000, 0)
    closed = vickrey(provider, ANN, other)
    call_id = closed.message.call_id
    called = call(profile=VICKREY, reveal_ms=900)
    shill = replace(other, ask=3_001)
    forged = EVE.sign(BidReveal(call_id, closed.content_id, shill, bytes(32))).envelope
    wrong = award_of(called, rate=3_001, evidence=(forged,), closed=closed)
    (decline,) = said(provider.hear(wrong, CONTEXT))
    assert isinstance(decline, AwardDecline)
    provider = fresh()
    assert vickrey(provider, ANN, other) == closed
    fair = EVE.sign(BidReveal(call_id, closed.content_id, other, bytes(32))).envelope
    right = award_of(called, rate=4_000, evidence=(fair,), closed=closed)
    (accept,) = said(provider.hear(right, CONTEXT))
    assert isinstance(accept, AwardAccept)


def test_our_own_bid_is_no_evidence() -> None:
    provider, other = fresh(), Bid(4_000, "embedded", 1, 10_000, 35_000, 0)
    closed = vickrey(provider, ANN, other)
    (bidding,) = provider.biddings.values()
    own = bidding.bidding
    reveal = BidReveal(own.call_id, closed.content_id, own.bid, own.nonce)
    proof = SIGNERS[0].sign(reveal).envelope
    called = call(profile=VICKREY, reveal_ms=900)
    wrong = award_of(called, rate=3_000, evidence=(proof,), closed=closed)
    (decline,) = said(provider.hear(wrong, CONTEXT))
    assert isinstance(decline, AwardDecline)


# Leases.


def test_a_release_that_overtakes_its_award_leaves_no_capacity_held() -> None:
    provider = fresh()
    called = call()
    provider.hear(called, CONTEXT)
    lease_id = lease_id_of(CallId(called.content_id), 0, 0, 0, SIGNERS[0].peer_id)
    assert provider.hear(EVE.sign(LeaseRelease(lease_id, 2)), CONTEXT) == []
    assert provider.hear(ANN.sign(LeaseRelease(lease_id, 2)), CONTEXT) == []
    assert provider.hear(award_of(called), CONTEXT) == []
    assert provider.left(POLICY.capacity) == POLICY.capacity
    assert not provider.leases


def test_strangers_do_not_touch_a_lease() -> None:
    provider = fresh()
    lease_id = won(provider)
    before = dict(provider.leases)
    for message in (LeaseRelease(lease_id, 1), Start(lease_id, 0)):
        assert provider.hear(EVE.sign(message), CONTEXT) == []
    assert provider.leases == before


def test_who_goes_on_with_a_lease_that_is_gone_is_told() -> None:
    gone = LeaseId(bytes(32))
    for message in (LeaseConfirm(gone, bytes(32), 0), Start(gone, 0)):
        (told,) = said(fresh().hear(ANN.sign(message), CONTEXT))
        assert told == LeaseRelease(gone, Release.EXPIRED, "the hold has expired")
    assert fresh().hear(ANN.sign(LeaseRelease(gone, 1)), CONTEXT) == [], "no answer to an answer"


def test_capacity_comes_back_with_the_release() -> None:
    provider = fresh()
    lease_id = won(provider)
    provider.hear(ANN.sign(LeaseRelease(lease_id, 1)), CONTEXT)
    assert not provider.leases
    assert provider.left(POLICY.capacity) == POLICY.capacity


def test_a_hold_that_nobody_confirms_ends_by_itself() -> None:
    provider = fresh()
    won(provider)
    (held,) = provider.leases.values()
    (told,) = said(provider.handle(DeadlineReached(), later(held.deadline_ms - START_MS)))
    assert isinstance(told, LeaseRelease)
    assert not provider.leases


def test_an_owner_that_lends_less_stops_nobody() -> None:
    """Less capacity than is leased: the lease goes on, nothing more is promised."""
    provider = fresh()
    won(provider)
    less = Capacity(2, 4_096, 50_000)
    context = replace(CONTEXT, policy=replace(POLICY, capacity=less))
    assert provider.left(less).cpus == 0
    refused = call(AMY, resources=Resources(1))
    assert isinstance(said(provider.hear(refused, context))[0], BidRefusal)


def test_stopping_gives_every_lease_back() -> None:
    provider = fresh()
    for who in (ANN, AMY):
        called = call(who, resources=Resources(1))
        provider.hear(called, CONTEXT)
        provider.hear(award_of(called, who, rate=1_000, provider=provider), CONTEXT)
    assert len(said(provider.handle(StopRequested(), CONTEXT))) == 2
    assert not provider.leases


def test_the_loser_keeps_its_bid_ready() -> None:
    provider = fresh()
    called = call()
    provider.hear(called, CONTEXT)
    call_id = CallId(called.content_id)
    told = ANN.sign(Outcome(call_id, NO_ID, (Winner(EVE.peer_id, 1),), 1, (), 1))
    provider.hear(told, CONTEXT)
    (accept,) = said(provider.hear(award_of(called, outcome=told.envelope, offer=1), CONTEXT))
    assert isinstance(accept, AwardAccept)


def test_a_cancelled_auction_is_forgotten() -> None:
    provider = fresh()
    provider.hear(call(), CONTEXT)
    provider.hear(ANN.sign(Cancel(CallId(call().content_id))), CONTEXT)
    assert not provider.biddings
