"""What one requester, and all strangers together, may ask of a provider.

Spec: specs/auction.md#rate-limits.
"""

from dataclasses import replace
from typing import Any

import pytest

from protocol.core import call_limits, taken_awards
from protocol.core import provider as module
from protocol.core.provider import Provider
from protocol.machines.effects import Kill, Learn, Send
from protocol.machines.inputs import DeadlineReached
from protocol.machines.provider import lease
from protocol.rules.capacity import Capacity
from protocol.rules.selection import invitation_of, is_drawn
from protocol.values.ids import CallId, LeaseId, lease_id_of
from protocol.values.limits import (
    CALLS_BURST,
    EXPOSURE_MS,
)
from protocol.values.reasons import Decline
from protocol.wire.job import VICKREY, Resources, Workload
from protocol.wire.messages import (
    AwardAccept,
    AwardDecline,
    BidRefusal,
    BidReveal,
    Cancel,
    CommitSet,
    LeaseRelease,
)
from tests.driven import POLICY, START_MS
from tests.protocol.core.test_provider import (
    AMY,
    ANN,
    CALL,
    CONTEXT,
    EVE,
    award_of,
    call,
    fresh,
    later,
    said,
    won,
)
from tests.strategies import SIGNERS


def test_a_provider_takes_part_in_so_many_auctions_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for each in (module, call_limits):
        monkeypatch.setattr(each, "BIDDINGS_MAX", 3)
    provider = fresh()
    calls = [call(signer) for signer in SIGNERS[1:6]]
    assert [bool(provider.hear(each, CONTEXT)) for each in calls] == [True] * 3 + [False] * 2
    assert len(provider.biddings) == 3
    assert len(provider._calls._buckets) <= 3
    provider.hear(SIGNERS[1].sign(Cancel(CallId(calls[0].content_id))), CONTEXT)
    assert provider.hear(calls[3], CONTEXT), "there is a place again"


def test_who_asks_without_buying_makes_a_provider_write_nothing() -> None:
    provider = fresh()
    called = call(profile=VICKREY, reveal_ms=900)
    committed = provider.hear(called, CONTEXT)
    (commit,) = said(committed)
    closed = ANN.sign(CommitSet(CallId(called.content_id), (commit.commitment,)))
    opened = provider.hear(closed, CONTEXT)
    assert isinstance(said(opened)[0], BidReveal)
    quick = provider.hear(call(AMY), CONTEXT)
    for effect in (*committed, *opened, *quick):
        assert isinstance(effect, Send | Learn)
        assert not (isinstance(effect, Send) and effect.in_outbox)


def test_a_requester_cannot_withdraw_the_bid_of_another() -> None:
    provider = fresh()
    called = call()
    provider.hear(called, CONTEXT)
    provider.hear(call(AMY, nonce=bytes([7]) * 16), CONTEXT)
    lease_id = lease_id_of(CallId(called.content_id), 0, 0, 0, SIGNERS[0].peer_id)
    assert provider.hear(AMY.sign(LeaseRelease(lease_id, 2)), CONTEXT) == []
    assert provider.hear(award_of(called, AMY), CONTEXT) == []
    (accept,) = said(provider.hear(award_of(called), CONTEXT))
    assert isinstance(accept, AwardAccept)


def test_releases_of_strangers_and_of_whom_we_have_no_bid_for_are_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.core.taken_awards.BIDDINGS_MAX", 2)
    provider = fresh()
    provider.hear(call(), CONTEXT)
    for number in range(5):
        for who in (ANN, EVE):
            provider.hear(who.sign(LeaseRelease(bytes([number]) * 32, 2)), CONTEXT)
    fenced = [n for n in range(5) if provider._awards.is_fenced(bytes([n]) * 32, ANN.peer_id)]
    assert fenced == [3, 4]
    assert not provider._awards.is_fenced(bytes([4]) * 32, EVE.peer_id)
    called = call(AMY, nonce=bytes([7]) * 16)
    lease_id = lease_id_of(CallId(called.content_id), 0, 0, 0, SIGNERS[0].peer_id)
    provider.hear(ANN.sign(LeaseRelease(lease_id, 2)), CONTEXT)
    provider.hear(called, CONTEXT)
    (accept,) = said(provider.hear(award_of(called, AMY), CONTEXT))
    assert isinstance(accept, AwardAccept), "another may not fence it"


def test_nobody_undoes_the_release_of_another() -> None:
    provider, called = fresh(), call(AMY)
    provider.hear(call(), CONTEXT)
    provider.hear(called, CONTEXT)
    lease_id = lease_id_of(CallId(called.content_id), 0, 0, 0, SIGNERS[0].peer_id)
    for who in (AMY, ANN):
        provider.hear(who.sign(LeaseRelease(lease_id, 2)), CONTEXT)
    assert provider.hear(award_of(called, AMY), CONTEXT) == []


def test_leases_go_on_after_a_restart() -> None:
    provider, again = fresh(), fresh()
    lease_id = won(provider)
    assert again.recover(provider.leases.values(), CONTEXT) == []
    assert isinstance(again.leases[lease_id], lease.Held)
    assert again.left(CONTEXT.policy.capacity) == provider.left(CONTEXT.policy.capacity)


# One bid, many awards.


def reusing(**more: Any) -> Any:
    return call(resources=Resources(1), rate_max=9_000, reuse_ms=60_000, **more)


def numbered(called: Any, slot: int) -> Any:
    """Return the award of a call with another number."""
    return ANN.sign(replace(award_of(called, rate=1_000).message, slot=slot))


def test_an_open_bid_takes_one_award_after_another_while_there_is_capacity() -> None:
    provider, called = fresh(), reusing()
    (bid,) = said(provider.hear(called, CONTEXT))
    assert isinstance(bid, BidReveal)
    assert bid.bid.slots == 4
    answers = [said(provider.hear(numbered(called, slot), CONTEXT)) for slot in range(5)]
    kinds = [type(answer) for (answer,) in answers]
    assert kinds == [AwardAccept] * 4 + [AwardDecline]
    assert len(provider.leases) == 4


def test_a_bid_that_no_longer_binds_takes_awards_until_its_time_is_over() -> None:
    provider, called = fresh(), reusing()
    provider.hear(called, CONTEXT)
    (revealed,) = provider.biddings.values()
    binding_ms = revealed.deadline_ms - START_MS
    provider.handle(DeadlineReached(), later(binding_ms))
    (standing_by,) = provider.biddings.values()
    assert standing_by.deadline_ms == START_MS + binding_ms + 60_000
    (accept,) = said(provider.hear(numbered(called, 7), later(binding_ms)))
    assert isinstance(accept, AwardAccept)
    provider.handle(DeadlineReached(), later(binding_ms + 60_000))
    assert not provider.biddings


def test_a_late_copy_of_an_award_makes_no_second_lease() -> None:
    provider, called = fresh(), reusing()
    provider.hear(called, CONTEXT)
    award = numbered(called, 0)
    provider.hear(award, CONTEXT)
    (lease_id,) = provider.leases
    provider.hear(ANN.sign(LeaseRelease(lease_id, 1)), CONTEXT)
    assert not provider.leases
    (decline,) = said(provider.hear(award, CONTEXT))
    assert isinstance(decline, AwardDecline)
    assert decline.reason == Decline.POLICY
    assert not provider.leases


def test_bids_that_no_longer_bind_are_bounded_and_keep_nobody_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BIDDINGS_MAX", 3)
    provider, at_ms = fresh(), 0
    for number in range(9):
        provider.hear(reusing(nonce=number.to_bytes(16)), later(at_ms))
        at_ms += 20_000
        provider.handle(DeadlineReached(), later(at_ms))
    assert len(provider.biddings) == 3
    assert said(provider.hear(reusing(nonce=bytes([9]) * 16), later(at_ms)))


def test_an_award_refunds_its_call() -> None:
    provider = fresh()
    for number in range(CALLS_BURST + 5):
        lease_id = won(provider, nonce=number.to_bytes(16))
        assert lease_id in provider.leases
        provider.hear(ANN.sign(LeaseRelease(lease_id, 1)), CONTEXT)


def test_a_lottery_lets_only_those_bid_that_it_draws() -> None:
    provider = fresh()
    calls = [reusing(nonce=number.to_bytes(16), lottery=500_000) for number in range(40)]
    answered = [bool(provider.hear(each, CONTEXT)) for each in calls]
    drawn = [is_drawn(CallId(each.content_id), SIGNERS[0].peer_id, 500_000) for each in calls]
    assert answered == drawn
    assert 0 < sum(drawn) < 40


def test_a_call_lets_those_bid_that_it_invites() -> None:
    provider, own = fresh(), SIGNERS[0].peer_id
    nonces = [number.to_bytes(16) for number in range(40)]
    calls = [reusing(nonce=each, lottery=1, invited=(invitation_of(each, own),)) for each in nonces]
    assert all(provider.hear(each, CONTEXT) for each in calls)
    another = reusing(nonce=bytes(16), lottery=1, invited=(invitation_of(bytes(15) + b"x", own),))
    assert not provider.hear(another, CONTEXT), "an invitation holds for the nonce of its call"


# Hints.


def test_a_refusal_says_when_a_running_job_ends_at_the_latest() -> None:
    provider = fresh()
    lease_id = won(provider)
    provider.leases[lease_id] = lease.Serving(
        provider.leases[lease_id].hold, START_MS + 60_000, bytes(32), Workload(bytes(32), ("x",)),
        started_ms=START_MS, beat=0, paid_ms=0, vouchers=0, voucher=b"", started=True,
    )  # fmt: skip
    (refusal,) = said(provider.hear(call(AMY), later(10_000)))
    assert isinstance(refusal, BidRefusal)
    assert refusal.free_ms == 590_000


def test_late_copies_of_call_and_award_do_not_bring_a_lease_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider, called = fresh(), call()
    lease_id = won(provider)
    provider.hear(ANN.sign(LeaseRelease(lease_id, 1)), CONTEXT)
    provider.handle(DeadlineReached(), later(60_000))
    assert not provider.biddings
    assert provider.hear(called, CONTEXT) == []
    (declined,) = said(provider.hear(award_of(called), CONTEXT))
    assert isinstance(declined, AwardDecline)
    assert not provider.leases
    monkeypatch.setattr(taken_awards, "BIDDINGS_MAX", 1)  # It remembers only so many.
    won(provider, nonce=b"1" * 16)
    provider.handle(DeadlineReached(), later(120_000))
    assert said(provider.hear(called, later(120_000)))


def run_unpaid(provider: Provider, leases: list[LeaseId]) -> None:
    """Let the containers of leases run to the end of what may be unpaid, one after another."""
    for place, lease_id in enumerate(leases):
        state = provider.leases[lease_id]
        provider.leases[lease_id] = lease.Serving(
            state.hold, START_MS + EXPOSURE_MS + place, bytes(32), Workload(bytes(32), ("x",)),
            started_ms=START_MS, beat=0, paid_ms=0, vouchers=0, voucher=b"", started=True,
        )  # fmt: skip


def test_paused_containers_hold_no_more_memory_than_the_owner_allows() -> None:
    """Those that were paused first end first."""
    roomy = replace(POLICY, jobs_max=9, capacity=Capacity(9, 9_000, 9_000))
    policy = replace(roomy, pause_memory_mib=2 * CALL.resources.memory_mib)
    context, provider = replace(CONTEXT, policy=policy), fresh()
    nonces = [bytes([number]) * 16 for number in range(3)]
    leases = [won(provider, context=context, nonce=nonce) for nonce in nonces]
    run_unpaid(provider, leases)
    killed = []
    for place in range(3):
        at = replace(later(EXPOSURE_MS + place), policy=policy)
        told = provider.handle(DeadlineReached(), at)
        killed.append([effect.lease_id for effect in told if isinstance(effect, Kill)])
    assert killed == [[], [], [leases[0]]]
