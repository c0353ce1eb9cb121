"""A requester's auctions: which slots it may use, for how long, and what replaces them.

Spec: specs/queue.md#auctions.
"""

from dataclasses import replace
from typing import Any

from protocol.core.auctions import DECIDED_MAX, Auctions
from protocol.core.candidates import Candidates
from protocol.core.directory import Directory
from protocol.core.jobs import Job, JobClass, JobFailure, class_of
from protocol.core.standings import Standings
from protocol.machines.inputs import DeadlineReached, JobCancelled
from protocol.machines.requester.auction import Decided, Lost
from protocol.rules.pricing import Cap
from protocol.rules.standing import BROKEN
from protocol.values.ids import CallId, JobId, PeerId
from protocol.values.limits import COMMIT_MS, REVEAL_MS
from protocol.values.reasons import Failure, Refusal
from protocol.wire.job import QUICK
from protocol.wire.messages import NO_ID, Bid, BidCommit, BidRefusal, BidReveal
from tests.driven import START_MS
from tests.protocol.machines.requester.auction.test_deciding import CONTEXT
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

JOB = Job(JobId(bytes(16)), job_spec(rate_max=100, profile=QUICK), START_MS)
CLASS = class_of(JOB)
BEN, CLEO = SIGNERS[1].peer_id, SIGNERS[2].peer_id


class Opened:
    """Auctions of a requester that knows nobody, in Profile Q: bids need no commitment."""

    def __init__(self) -> None:
        self.standings, self.illegal = Standings(), dict[str, int]()
        candidates = Candidates(Directory(), self.standings)
        self.auctions = Auctions(candidates, self.standings, (), self.illegal)

    def call(self, slots: int = 1, job: Job = JOB) -> CallId:
        before = set(self.auctions.states)
        cap = Cap(job.spec.terms.rate_max, "the job's highest price")
        self.auctions.open(job, class_of(job), slots, cap, CONTEXT)
        (call_id,) = set(self.auctions.states) - before
        return call_id

    def decide(self, call_id: CallId, *bids: tuple[int, int]) -> Decided | Lost:
        """Let bidders ask for so much for so many slots, and end the window."""
        for signer, (ask, slots) in zip(SIGNERS[1:], bids, strict=False):
            bid = Bid(ask, "embedded", 1, 10_000, 35_000, 0, slots)
            reveal = signer.sign(BidReveal(call_id, NO_ID, bid, bytes(32)))
            self.auctions.hear(call_id, reveal, CONTEXT)
        sale, _ = self.auctions.step(call_id, DeadlineReached(), CONTEXT)
        assert sale is not None
        return sale

    def take(self, job_class: JobClass = CLASS) -> Any:
        return next(iter(self.auctions.take(job_class)), None)


def test_doubted_jobs_take_slots_of_who_has_served_us_or_of_auctions_of_their_own() -> None:
    failure = JobFailure(Failure.SANDBOX_FAILED, PeerId("liar"))
    doubted = replace(JOB, avoid=(failure.provider,), failures=(failure,))
    opened = Opened()
    opened.decide(opened.call(slots=2), (30, 1), (10, 1), (40, 1))
    opened.standings.note_job(BEN, START_MS, succeeded=True)
    assert opened.take(class_of(doubted)).provider == BEN, "the cheaper one is a stranger's"
    assert opened.take(class_of(doubted)) is None
    opened.standings.strike(BEN, BROKEN, START_MS)
    opened.decide(opened.call(job=doubted), (90, 1), (50, 1))
    assert opened.take(class_of(doubted)).provider == CLEO, "nobody else bids"
    assert opened.take().provider == CLEO, "the stranger's slot is left for other jobs"


def test_an_auction_is_open_until_it_is_decided() -> None:
    opened = Opened()
    call_id = opened.call()
    assert (len(opened.auctions), opened.auctions.of_job(JOB.job_id)) == (1, call_id)
    assert opened.auctions.class_of(call_id) == CLASS
    assert isinstance(opened.decide(call_id, (10, 1)), Decided)
    assert (len(opened.auctions), opened.auctions.of_job(JOB.job_id)) == (0, None)


def test_sold_slots_carry_one_job_after_another_the_cheapest_first() -> None:
    opened = Opened()
    opened.decide(opened.call(slots=3), (30, 1), (10, 2))
    slots = [opened.take() for _ in range(3)]
    assert [(slot.provider, slot.price.rate, slot.unit) for slot in slots] == [
        (CLEO, 10, 0), (CLEO, 10, 1), (BEN, 30, 0),
    ]  # fmt: skip
    assert opened.take() is None
    assert not opened.auctions.any_slots()
    opened.auctions.release(slots[1])
    again = opened.take()
    assert again == replace(slots[1], binding=False), "the provider promised one award only"


def test_a_slot_is_for_its_class_and_not_for_those_that_avoid_its_provider() -> None:
    opened = Opened()
    opened.decide(opened.call(), (10, 1))
    assert opened.take(class_of(replace(JOB, spec=job_spec()))) is None
    avoiding = class_of(replace(JOB, avoid=(BEN,)))
    assert not opened.auctions.can_take(avoiding)
    assert opened.take(avoiding) is None
    assert opened.auctions.can_take(class_of(replace(JOB, avoid=(CLEO,))))
    assert opened.auctions.has_sold(CLASS, BEN)
    assert not opened.auctions.has_sold(CLASS, CLEO)


def test_a_slot_that_is_not_served_is_replaced_by_the_next_bid() -> None:
    opened = Opened()
    opened.decide(opened.call(), (10, 1), (30, 1))
    assert opened.auctions.replace(opened.take(), CONTEXT) == 1
    assert not opened.auctions.has_sold(CLASS, BEN)
    second = opened.take()
    assert (second.provider, second.price.rate, second.passed) == (CLEO, 30, 1)
    assert opened.auctions.replace(second, CONTEXT) == 2
    assert opened.take() is None


def test_slots_end_with_the_time_of_their_auction() -> None:
    opened = Opened()
    call_id = opened.call(slots=2)
    opened.decide(call_id, (10, 2))
    used = opened.take()
    sale, effects = opened.auctions.step(call_id, DeadlineReached(), CONTEXT)
    assert (sale, effects) == (None, [])
    assert opened.take() is None
    opened.auctions.release(used)
    assert opened.take() is None
    assert opened.auctions.replace(used, CONTEXT) == 1


def test_so_many_decided_auctions_are_kept() -> None:
    opened = Opened()
    for number in range(DECIDED_MAX + 3):
        job = replace(JOB, spec=job_spec(rate_max=100 + number, profile=QUICK))
        opened.decide(opened.call(job=job), (10, 1))
    assert len(opened.auctions.states) == DECIDED_MAX
    assert opened.take() is None, "the oldest have lapsed"


def test_the_supply_is_known_after_an_auction() -> None:
    opened = Opened()
    assert opened.auctions.supply(CLASS) == 1
    opened.decide(opened.call(slots=2), (10, 3), (30, 2))
    assert opened.auctions.supply(CLASS) == 3
    lost = opened.decide(opened.call())
    assert isinstance(lost, Lost)
    assert lost.reason is Failure.NO_BIDS
    assert opened.auctions.supply(CLASS) == 1


def commit_ms(opened: Opened) -> int:
    """Return the window of the next call."""
    return opened.auctions.states[opened.call()].auction.call.commit_ms


def test_a_bid_that_comes_too_late_for_a_lost_auction_widens_the_windows() -> None:
    opened = Opened()
    call_id = opened.call()
    opened.decide(call_id)
    refusal = SIGNERS[1].sign(BidRefusal(call_id, Refusal.BUSY))
    opened.auctions.hear(call_id, refusal, CONTEXT)
    assert commit_ms(opened) == COMMIT_MS, "who refuses would not have bid in time either"
    bid = Bid(10, "embedded", 1, 10_000, 35_000, 0)
    for signer in SIGNERS[1:3]:
        late = signer.sign(BidReveal(call_id, NO_ID, bid, bytes(32)))
        assert opened.auctions.hear(call_id, late, CONTEXT) == (None, [])
    assert commit_ms(opened) == 2 * COMMIT_MS
    opened.decide(opened.call(), (10, 1))
    assert commit_ms(opened) == COMMIT_MS, "it was quick again"


def test_an_auction_in_which_nobody_opened_its_bid_widens_the_windows() -> None:
    opened = Opened()
    job = replace(JOB, spec=job_spec(rate_max=100))
    call_id = opened.call(job=job)
    opened.auctions.hear(call_id, SIGNERS[1].sign(BidCommit(call_id, bytes(32))), CONTEXT)
    for _ in range(2):
        sale, _ = opened.auctions.step(call_id, DeadlineReached(), CONTEXT)
    assert isinstance(sale, Lost)
    assert sale.reason is Failure.EXHAUSTED
    following = opened.auctions.states[opened.call(job=job)].auction.call
    assert (following.commit_ms, following.reveal_ms) == (2 * COMMIT_MS, 2 * REVEAL_MS)


def test_a_cancelled_auction_is_over() -> None:
    opened = Opened()
    call_id = opened.call()
    sale, _ = opened.auctions.step(call_id, JobCancelled(JOB.job_id), CONTEXT)
    assert isinstance(sale, Lost)
    assert not opened.auctions.states
    assert opened.auctions.step(call_id, DeadlineReached(), CONTEXT) == (None, [])
