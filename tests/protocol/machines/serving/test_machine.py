"""A provider and one lease: nothing runs that is not written down, nor further than is paid.

Spec: specs/lease.md#provider.
"""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from protocol.machines import serving
from protocol.machines.effects import Drop, Extend, Kill, Launch, Save, Settle
from protocol.machines.inputs import (
    ContainerExited,
    ContainerFailed,
    ContainerStarted,
    FetchProgressed,
    Prepared,
    PrepareFailed,
    StopRequested,
)
from protocol.machines.serving import Ended, Hold, Serving, Settling
from protocol.rules.capacity import Reservation
from protocol.rules.metering import amount_of
from protocol.values.ids import CallId, ContentId, LeaseId, digest_of
from protocol.values.limits import EXPOSURE_MS, HEARTBEAT_MS
from protocol.values.reasons import Release
from protocol.wire.envelope import open_envelope
from protocol.wire.job import BlobRef, Resources, Workload
from protocol.wire.messages import (
    AwardAccept,
    Completed,
    Deploy,
    Heartbeat,
    LeaseActive,
    LeaseConfirm,
    LeaseRelease,
    Ready,
    Receipt,
    Released,
    Start,
    Voucher,
)
from protocol.wire.snapshot import from_snapshot, to_snapshot
from tests.driven import Driven
from tests.strategies import SIGNERS

REQUESTER = SIGNERS[1]
LEASE = LeaseId(digest_of(b"lease"))
RATE = 3_333
USAGE_MS_MAX = 60_000
ATTEMPT = 2
HOLD = Hold(
    LEASE, CallId(bytes(32)), REQUESTER.peer_id, ATTEMPT, RATE, USAGE_MS_MAX, Resources(2),
    Reservation(Resources(2)),
)  # fmt: skip
WORKLOAD = Workload(bytes(32), ("a",), resources=Resources(2), timeout_ms=USAGE_MS_MAX)
OUTPUTS = BlobRef(digest_of(b"outputs"), 9)
WORDS = st.text(max_size=600)


class ServingMachine(Driven):
    """All that may happen to a provider's lease; the core lets only the requester speak."""

    table = serving.TRANSITIONS
    union = serving.State
    written_first = (AwardAccept, LeaseActive, Ready, Completed, Released, LeaseRelease)

    silent_steps_max = 400  # Half an hour of heartbeats while it fetches.

    @initialize(ahead=st.integers(0, 6))
    def hold(self, ahead: int) -> None:
        """Go some of the way that an undisturbed lease takes, so that all of it is explored."""
        self.launches = 0
        self.unpaid_since_ms: int | None = None
        award = ContentId(digest_of(b"award"))
        self.begin(*serving.hold_award(HOLD, award, 6_000, self.context))
        undisturbed = [
            lambda: self.confirmed(True), lambda: self.deployed(2, 0),
            lambda: self.prepared(False, ""), lambda: self.told_to_start(ATTEMPT),
            self.container_starts, lambda: self.container_exits(0, 9_000, ""),
        ]  # fmt: skip
        for step in undisturbed[:ahead]:
            self.time_passes(1_000)
            step()

    @property
    def contract(self) -> ContentId:
        known = getattr(self.state, "receipt", self.state)
        return getattr(known, "contract", ContentId(bytes(32)))

    def hear(self, message: Any) -> tuple[Any, ...]:
        return self.take(REQUESTER.sign(message))

    @rule(right=st.sampled_from([True, True, False]), more=st.sampled_from([0, 0, 0, 1, -1]))
    def confirmed(self, right: bool, more: int = 0) -> None:
        accept = getattr(self.state, "accept", bytes(32)) if right else bytes(32)
        self.hear(LeaseConfirm(LEASE, accept, amount_of(RATE, USAGE_MS_MAX) + more))

    @rule(cpus=st.sampled_from([2, 2, 2, 3]), longer_ms=st.sampled_from([0, 0, 1]))
    def deployed(self, cpus: int, longer_ms: int) -> None:
        wanted = Workload(
            bytes(32), ("a",), resources=Resources(cpus), timeout_ms=USAGE_MS_MAX + longer_ms
        )
        self.hear(Deploy(LEASE, wanted))
        if wanted != WORKLOAD:
            assert getattr(self.state, "workload", WORKLOAD) == WORKLOAD

    @rule(attempt=st.sampled_from([ATTEMPT, ATTEMPT, ATTEMPT + 1]))
    def told_to_start(self, attempt: int) -> None:
        effects = self.hear(Start(LEASE, attempt))
        for effect in effects:
            if isinstance(effect, Launch):
                assert attempt == ATTEMPT
                assert isinstance(effects[0], Save), "launched before written"
                assert isinstance(effects[0].state, Serving)

    @rule(paid_ms=st.integers(0, 80_000), sequence=st.integers(1, 6), short=st.booleans())
    def vouched(self, paid_ms: int, sequence: int, short: bool) -> None:
        amount = max(0, amount_of(RATE, paid_ms) - short)
        before = self.state
        self.hear(Voucher(LEASE, self.contract, sequence, paid_ms, amount))
        if isinstance(before, Serving):
            assert self.state.paid_ms >= before.paid_ms
            assert self.state.paid_ms in {before.paid_ms, paid_ms}
            assert not short or amount_of(RATE, paid_ms) == 0 or self.state == before

    @rule()
    def vouched_for_another_contract(self) -> None:
        before = self.state
        self.hear(Voucher(LEASE, ContentId(digest_of(b"other")), 9, 1, 10**9))
        assert self.state == before

    @rule()
    def given_up(self) -> None:
        self.hear(LeaseRelease(LEASE, 2))

    @rule(own=st.booleans())
    def countersigned(self, own: bool) -> None:
        proposed = getattr(self.state, "receipt", None)
        if proposed is not None:
            lie = Receipt(LEASE, self.contract, *[SIGNERS[1].peer_id] * 2, 0, 0, 0, 0, b"")
            self.hear(proposed if own else lie)
            assert isinstance(self.state, Ended) == own

    # What its own sandbox and owner say, at any time.

    @rule(failed=st.booleans(), why=WORDS)
    def prepared(self, failed: bool, why: str) -> None:
        self.take(PrepareFailed(LEASE, why) if failed else Prepared(LEASE))

    @rule(done=st.integers(0, 10**12))
    def fetched(self, done: int) -> None:
        self.take(FetchProgressed(LEASE, done, 10**12))

    @rule()
    def container_starts(self) -> None:
        self.take(ContainerStarted(LEASE))

    @rule(code=st.integers(0, 255), usage_ms=st.integers(0, 100_000), detail=WORDS)
    def container_exits(self, code: int, usage_ms: int, detail: str) -> None:
        self.take(ContainerExited(LEASE, code, "exited", detail, usage_ms, OUTPUTS))

    @rule(why=WORDS)
    def container_fails(self, why: str) -> None:
        self.take(ContainerFailed(LEASE, why))

    @rule()
    def owner_stops(self) -> None:
        self.take(StopRequested())

    @precondition(lambda self: not self.over)
    @rule()
    def node_restarts(self) -> None:
        saves = [effect for effect in self.effects if isinstance(effect, Save)]
        written = from_snapshot(serving.State, to_snapshot(saves[-1].state))
        assert type(written) is type(self.state), "a state that a restart forgets"
        self.launches = 0
        state, effects = serving.resume(written, self.context)
        self.mark, self.state = len(self.effects), state
        self.effects += effects

    # What always holds.

    def begin(self, state: Any, effects: tuple[Any, ...]) -> None:
        super().begin(state, effects)
        self.launches += sum(isinstance(effect, Launch) for effect in effects)
        assert self.launches <= 1, "launched twice without a restart"

    @invariant()
    def speaks_to_its_requester_only(self) -> None:
        assert {peer for peer, _ in self.sent} <= {REQUESTER.peer_id}

    @invariant()
    def never_runs_further_than_paid_and_exposed(self) -> None:
        """We look again a heartbeat after the edge, or after now if that was missed."""
        if isinstance(self.state, Serving) and not self.state.killed:
            edge_ms = self.state.started_ms + self.state.paid_ms + EXPOSURE_MS
            assert self.state.deadline_ms <= max(edge_ms, self.now_ms) + HEARTBEAT_MS

    @invariant()
    def budgets_only_grow_within_one_launch(self) -> None:
        budgets: list[int] = []
        for effect in self.effects:
            if isinstance(effect, Launch):
                budgets = [effect.budget_ms]
            elif isinstance(effect, Extend):
                budgets.append(effect.budget_ms)
        assert all(before <= after for before, after in pairwise(budgets))

    @invariant()
    def launches_nothing_after_the_end(self) -> None:
        kinds = [type(effect) for effect in self.effects]
        if Drop in kinds:
            assert Launch not in kinds[kinds.index(Drop):]  # fmt: skip
            assert isinstance(self.state, Ended | Settling)

    @invariant()
    def bills_what_was_used_at_the_agreed_rate(self) -> None:
        bills = [message.receipt for message in self.sent_of(Completed, Released)]
        assert len(bills) <= 1
        for envelope in filter(None, bills):
            bill = open_envelope(envelope, self.signer.network_id, REQUESTER.peer_id).message
            assert isinstance(bill, Receipt)
            assert (bill.rate, bill.payer) == (RATE, REQUESTER.peer_id)
            assert bill.usage_ms <= USAGE_MS_MAX
            assert bill.amount == amount_of(RATE, bill.usage_ms)

    @invariant()
    def keeps_one_receipt_that_is_signed_at_most_once(self) -> None:
        kept = [effect for effect in self.effects if isinstance(effect, Settle)]
        assert len({effect.proposal for effect in kept}) <= 1
        assert len([effect for effect in kept if effect.countersign]) <= 1

    @invariant()
    def claims_no_usage_before_the_container_started(self) -> None:
        started = getattr(self.state, "started", True)
        last = self.sent[-1][1] if self.sent else None
        if not started and isinstance(last, Heartbeat):
            assert last.usage_ms == 0

    @invariant()
    def keeps_its_capacity_until_the_container_is_gone(self) -> None:
        if self.state is not None:
            free = isinstance(self.state, Settling | Ended)
            assert (serving.reserved(self.state) is None) == free


TestServing = ServingMachine.TestCase
TestServing.settings = settings(max_examples=120, stateful_step_count=30)


# The same machine, step by step.


def after(steps: int) -> ServingMachine:
    machine = ServingMachine()
    machine.hold(ahead=steps)
    return machine


def exposed(machine: ServingMachine) -> None:
    """Let time pass without a voucher, until the container is told to stop."""
    while not machine.state.killed:
        machine.deadline_is_reached(0)


def test_the_undisturbed_way() -> None:
    states = [type(after(steps).state) for steps in range(7)]
    way = [serving.Held, serving.Active, serving.Preparing, serving.Waiting, Serving, Serving]
    assert states == [*way, Settling]
    assert not after(4).state.started
    assert after(5).state.started


def test_a_wrong_word_changes_nothing() -> None:
    held, waiting, running, settling = (after(steps) for steps in (0, 3, 5, 6))
    held.confirmed(False)
    assert isinstance(held.state, serving.Held)
    waiting.told_to_start(ATTEMPT + 1)
    assert isinstance(waiting.state, serving.Waiting)
    running.vouched(5_000, 1, short=True)
    assert running.state.paid_ms == 0
    settling.countersigned(own=False)
    assert isinstance(settling.state, Settling)


def test_an_old_voucher_changes_nothing() -> None:
    machine = after(5)
    machine.vouched(9_000, 2, short=False)
    before = machine.state
    machine.vouched(80_000, 2, short=False)
    machine.vouched(80_000, 1, short=False)
    assert machine.state == before
    machine.vouched(3_000, 3, short=False)
    assert machine.state.paid_ms == 9_000


def test_a_larger_job_than_the_contract_is_given_back() -> None:
    for cpus, longer_ms in ((3, 0), (2, 1)):
        machine = after(1)
        machine.deployed(cpus, longer_ms)
        assert isinstance(machine.state, Ended)
        assert [said.reason for said in machine.sent_of(LeaseRelease)] == [Release.CONTRACT]


@pytest.mark.parametrize("more", [1, -1])
def test_a_confirmation_of_another_amount_is_refused(more: int) -> None:
    machine = after(0)
    machine.confirmed(True, more)
    assert isinstance(machine.state, Ended)
    assert [said.reason for said in machine.sent_of(LeaseRelease)] == [Release.CONTRACT]


def test_nobody_pays_so_the_container_is_stopped_and_billed() -> None:
    machine = after(5)
    exposed(machine)
    # The sandbox stops it at the very instant; we look when it is time for a heartbeat.
    assert 0 <= machine.now_ms - machine.state.started_ms - EXPOSURE_MS < HEARTBEAT_MS
    machine.container_exits(137, EXPOSURE_MS, "")
    assert isinstance(machine.state, Settling)


def test_a_sandbox_that_does_not_stop_is_given_up_unbilled() -> None:
    machine = after(5)
    exposed(machine)
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, Ended)
    assert [said.reason for said in machine.sent_of(LeaseRelease)] == [4]


def test_who_was_released_stops_and_bills_what_ran() -> None:
    machine = after(5)
    machine.time_passes(3_000)
    machine.given_up()
    assert isinstance(machine.state, serving.Stopping)
    _, effects = serving.resume(machine.state, machine.context)
    assert [type(effect) for effect in effects] == [Kill], "also after a restart"
    machine.container_exits(137, 12_000, "")
    assert [said.usage_ms for said in machine.sent_of(Released)] == [3_000], "not the stopping"


def test_who_was_released_and_has_no_answer_of_its_sandbox_bills_nothing() -> None:
    for silent in (True, False):
        machine = after(5)
        machine.given_up()
        machine.deadline_is_reached(0) if silent else machine.container_fails("broken")
        assert isinstance(machine.state, Ended)
        assert [said.receipt for said in machine.sent_of(Released)] == [b""]


def test_usage_counts_from_the_start_of_the_container_and_not_again() -> None:
    machine = after(4)
    machine.time_passes(3_000)
    machine.container_starts()
    started_ms = machine.state.started_ms
    assert started_ms == machine.now_ms
    machine.time_passes(1_000)
    machine.container_starts()
    assert machine.state.started_ms == started_ms


def test_the_voucher_for_most_is_kept() -> None:
    machine = after(6)
    machine.vouched(8_999, 1, short=False)
    first = machine.state.voucher
    assert first
    machine.vouched(9_000, 2, short=False)
    second = machine.state.voucher
    assert second != first
    machine.vouched(8_000, 3, short=False)
    assert machine.state.voucher == second


def test_nothing_is_claimed_before_the_container_starts() -> None:
    machine = after(4)
    machine.deadline_is_reached(0)
    machine.container_starts()
    machine.deadline_is_reached(0)
    assert [beat.usage_ms for beat in machine.sent_of(Heartbeat)] == [0, HEARTBEAT_MS]


def test_no_more_is_billed_than_the_contract_allows() -> None:
    machine = after(5)
    machine.container_exits(137, USAGE_MS_MAX + 1, "")
    assert machine.sent_of(Completed)[0].usage_ms == machine.state.receipt.usage_ms == USAGE_MS_MAX


@pytest.mark.parametrize("why", ["é" * 600, "one line\nand another\0", "\ud800", "x" * 10_000])
def test_whatever_a_sandbox_says_can_be_sent(why: str) -> None:
    exited, unprepared, failed = after(5), after(2), after(5)
    exited.container_exits(1, 5, why)
    unprepared.prepared(failed=True, why=why)
    failed.container_fails(why)
    assert exited.sent_of(Completed)
    assert unprepared.sent_of(LeaseRelease)
    assert failed.sent_of(LeaseRelease)
