"""What requesters may owe a provider: each, those of one source, and all that have not paid yet.

Spec: specs/standing.md#unpaid.
"""

from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.core.candidates import Candidates
from protocol.core.directory import Directory
from protocol.core.provider import Provider
from protocol.core.standings import Standings
from protocol.core.unpaid import GROWTH, SOURCE_SHARE
from protocol.machines.context import Context
from protocol.machines.inputs import DeadlineReached, StopRequested
from protocol.machines.provider import lease
from protocol.machines.provider.lease.billing import receipt_of
from protocol.rules.standing import CREDIT_DIVISOR, unpaid_of
from protocol.values.ids import ContentId, LeaseId, PeerId
from protocol.values.limits import (
    RECEIPT_UNPAID_MS,
    RETAIN_MS,
    STRANGERS_UNPAID_MS_MAX,
    UNPAID_HALF_LIFE_MS,
    UNPAID_MS_MAX,
)
from protocol.values.reasons import Refusal
from protocol.wire.envelope import KeySigner
from protocol.wire.job import Resources, Workload
from protocol.wire.messages import (
    AwardAccept,
    AwardDecline,
    BidRefusal,
    BidReveal,
    LeaseRelease,
    Voucher,
)
from tests.driven import START_MS
from tests.protocol.core.test_provider import AMY, ANN, CONTEXT, award_of, call, later, said, won

NONCES = count(1_000)


class Provided:
    """A provider, the standings that it keeps, and the sources that it is connected to."""

    def __init__(self) -> None:
        self.standings, self.sources = Standings(), dict[PeerId, str]()
        candidates = Candidates(Directory(), self.standings)
        self.half = Provider(candidates, self.standings, self.sources, {})

    def context(self, at_ms: int = 0) -> Context:
        return replace(CONTEXT, now_ms=START_MS + at_ms, standing_of=self.standings.of)

    def lease_of(self, who: Any, at_ms: int = 0) -> LeaseId:
        """Let a requester have a lease of one processor."""
        more = {"resources": Resources(1), "nonce": next(NONCES).to_bytes(16)}
        return won(self.half, who, self.context(at_ms), 1_000, **more)

    def kept_for(self, ms: int, at_ms: int, who: Any = ANN) -> None:
        """Let it have one for so long, from an instant on, and give it back unused."""
        lease_id = self.lease_of(who, at_ms)
        self.half.hear(who.sign(LeaseRelease(lease_id, 1)), self.context(at_ms + ms))

    def answer(self, who: Any, at_ms: int = 0) -> Refusal | None:
        """Return why a requester gets no bid; None if it gets one."""
        called = call(who, nonce=next(NONCES).to_bytes(16))
        (told,) = said(self.half.hear(called, self.context(at_ms)))
        if isinstance(told, BidRefusal):
            return Refusal(told.reason)
        assert isinstance(told, BidReveal)
        return None

    def unsigned(self, who: Any, usage_ms: int, voucher: bytes = b"") -> LeaseId:
        """Let a job of a requester end with a bill that it does not sign."""
        lease_id = self.lease_of(who)
        held = self.half.leases[lease_id]
        receipt = receipt_of(held.hold, ContentId(bytes(32)), usage_ms, (0, bytes(32)), CONTEXT)
        bill = lease.Settling(held.hold, START_MS + RETAIN_MS, b"", receipt, voucher)
        self.half.unpaid.note(held, bill, CONTEXT, blameless=False)
        self.half._set(bill)
        return lease_id


def strangers() -> Any:
    return (KeySigner(number.to_bytes(32), "test") for number in count(5_000))


# One requester.


def test_who_held_capacity_in_vain_for_too_long_is_told_so_until_it_is_forgiven() -> None:
    provider = Provided()
    provider.kept_for(UNPAID_MS_MAX, 0)
    assert provider.answer(ANN, UNPAID_MS_MAX) is None, "not yet too long"
    provider.kept_for(1, UNPAID_MS_MAX)
    now_ms = UNPAID_MS_MAX + 1
    assert provider.answer(ANN, now_ms) is Refusal.UNPAID
    assert provider.answer(AMY, now_ms) is None, "others are not hurt"
    assert provider.answer(ANN, now_ms + UNPAID_HALF_LIFE_MS) is None


def test_a_payment_takes_off_what_it_pays_for() -> None:
    provider = Provided()
    provider.kept_for(UNPAID_MS_MAX + 1_000, 0)
    provider.standings.settle(ANN.peer_id, 100)
    now_ms = UNPAID_MS_MAX + 1_000
    assert provider.answer(ANN, now_ms) is Refusal.UNPAID, "a small job does not clear it"
    provider.standings.settle(ANN.peer_id, 900)
    assert provider.answer(ANN, now_ms) is None


def test_several_leases_at_once_count_together() -> None:
    provider = Provided()
    for _ in range(2):
        provider.lease_of(ANN)
    called = call(nonce=bytes([9]) * 16, resources=Resources(1))
    provider.half.hear(called, provider.context())
    award = award_of(called, rate=1_000, provider=provider.half)
    over = provider.context(UNPAID_MS_MAX // 2 + 1)
    assert provider.half.unpaid.refusal(ANN.peer_id, over) is Refusal.UNPAID
    (answer,) = said(provider.half.hear(award, provider.context()))
    assert isinstance(answer, AwardAccept)


def test_the_award_of_one_that_owes_too_much_is_declined() -> None:
    provider = Provided()
    called = call(nonce=bytes([9]) * 16)
    provider.half.hear(called, provider.context())
    provider.standings.keep_unpaid(ANN.peer_id, UNPAID_MS_MAX + 1, START_MS)
    (decline,) = said(provider.half.hear(award_of(called), provider.context()))
    assert isinstance(decline, AwardDecline)


def test_what_our_own_owner_stops_is_nobody_elses_fault() -> None:
    provider = Provided()
    provider.lease_of(ANN)
    provider.half.handle(StopRequested(), later(UNPAID_MS_MAX + 1))
    assert provider.standings.of(ANN.peer_id).unpaid == 0


def test_a_running_container_counts_for_what_no_voucher_covers() -> None:
    provider = Provided()
    lease_id = provider.lease_of(ANN)
    held = provider.half.leases[lease_id]
    serving = lease.Serving(
        held.hold, START_MS, ContentId(bytes(32)), Workload(bytes(32), ("true",)),
        started_ms=START_MS, beat=0, paid_ms=20_000, vouchers=1, voucher=b"",
    )  # fmt: skip
    provider.half.unpaid.note(held, serving, CONTEXT, blameless=False)
    paid_until = 20_000 + UNPAID_MS_MAX
    for at_ms, refusal in ((paid_until, None), (paid_until + 1, Refusal.UNPAID)):
        assert provider.half.unpaid.refusal(ANN.peer_id, provider.context(at_ms)) is refusal


def test_an_unsigned_receipt_counts_and_a_signed_one_does_not() -> None:
    provider = Provided()
    provider.standings.keep_unpaid(ANN.peer_id, UNPAID_MS_MAX - RECEIPT_UNPAID_MS, START_MS)
    signed = provider.half.leases[provider.unsigned(ANN, 1)]
    assert isinstance(signed, lease.Settling)
    assert provider.answer(ANN) is None
    provider.standings.keep_unpaid(ANN.peer_id, 1, START_MS)
    assert provider.answer(ANN) is Refusal.UNPAID, "outputs are kept for it"
    provider.half.hear(ANN.sign(signed.receipt), provider.context())
    assert provider.answer(ANN) is None


def test_a_bill_counts_for_what_no_voucher_covers() -> None:
    provider = Provided()
    lease_id, usage_ms = provider.lease_of(ANN), 2 * UNPAID_MS_MAX
    half = Voucher(lease_id, bytes(32), 1, usage_ms // 2, 1_000 * usage_ms // 2_000)
    provider.unsigned(AMY, usage_ms, AMY.sign(half).envelope)
    assert provider.answer(AMY) is None
    provider.unsigned(AMY, RECEIPT_UNPAID_MS)
    assert provider.answer(AMY) is Refusal.UNPAID


def test_a_bill_that_stays_unsigned_is_remembered() -> None:
    provider = Provided()
    provider.unsigned(ANN, 30_000)
    provider.half.handle(DeadlineReached(), provider.context(RETAIN_MS))
    assert not provider.half.leases
    standing = provider.standings.of(ANN.peer_id)
    assert unpaid_of(standing, START_MS + RETAIN_MS) == 30_000


# All of them.


def test_fresh_keys_share_one_budget_and_who_has_paid_does_not_need_it() -> None:
    """Each of them once had a budget of its own, without end."""
    provider, keys, taken = Provided(), strangers(), 0
    provider.standings.settle(AMY.peer_id, CREDIT_DIVISOR * 60_000)
    while provider.answer(stranger := next(keys)) is None:
        provider.unsigned(stranger, 34_000)
        taken += 34_000
    assert provider.answer(next(keys)) is Refusal.UNPROVEN
    assert taken <= STRANGERS_UNPAID_MS_MAX + 60_000 + 34_000
    assert provider.answer(AMY) is None, "it has credit of its own"
    for _ in range(2):
        provider.unsigned(AMY, 34_000)
    assert provider.answer(AMY) is Refusal.UNPROVEN, "which ends"


def test_one_source_cannot_spend_the_budget_of_the_others() -> None:
    provider, keys = Provided(), strangers()
    stranger = next(keys)
    provider.sources[stranger.peer_id] = "192.0.2.1"
    while provider.answer(stranger) is None:
        provider.unsigned(stranger, 34_000)
        stranger = next(keys)
        provider.sources[stranger.peer_id] = "192.0.2.1"
    elsewhere = next(keys)
    provider.sources[elsewhere.peer_id] = "198.51.100.1"
    assert provider.answer(stranger) is Refusal.UNPROVEN
    assert provider.answer(elsewhere) is None
    spent = sum(each.amount_ms for each in provider.half.unpaid._open.values())
    assert spent <= STRANGERS_UNPAID_MS_MAX // SOURCE_SHARE + 34_000


def test_what_strangers_left_unpaid_is_written_off_in_time() -> None:
    provider, keys, held = Provided(), strangers(), 0
    while held <= STRANGERS_UNPAID_MS_MAX:
        provider.kept_for(UNPAID_MS_MAX, 0, next(keys))
        held += UNPAID_MS_MAX
    stranger = next(keys)
    assert provider.answer(stranger, UNPAID_MS_MAX) is Refusal.UNPROVEN
    assert provider.answer(stranger, 2 * UNPAID_MS_MAX) is None, "1 ms each ms"


def test_the_common_budget_grows_with_what_was_paid() -> None:
    provider, keys = Provided(), strangers()
    provider.standings.settle(AMY.peer_id, 10**12)
    for _ in range(GROWTH * STRANGERS_UNPAID_MS_MAX // UNPAID_MS_MAX):
        provider.unsigned(next(keys), UNPAID_MS_MAX)
    assert provider.answer(next(keys)) is None
    provider.unsigned(next(keys), UNPAID_MS_MAX)
    assert provider.answer(next(keys)) is Refusal.UNPROVEN, "but not without end"


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, UNPAID_MS_MAX), st.booleans())))
@settings(max_examples=25)
def test_who_has_paid_is_never_locked_out_by_others(steps: list[tuple[int, int, bool]]) -> None:
    provider, keys = Provided(), [KeySigner(bytes([200 + n]) * 32, "test") for n in range(3)]
    provider.standings.settle(ANN.peer_id, CREDIT_DIVISOR * 1_000)
    for who, usage_ms, signs in steps:
        if provider.answer(keys[who]) is not None:
            continue
        bill = provider.half.leases[provider.unsigned(keys[who], usage_ms)]
        if signs and isinstance(bill, lease.Settling):
            provider.half.hear(keys[who].sign(bill.receipt), provider.context())
    assert provider.answer(ANN) is None
