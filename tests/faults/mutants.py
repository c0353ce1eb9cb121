"""Mutants: the protocol with one of its load-bearing rules broken. The runs must catch each.

Spec: specs/faults.md#mutants. Some rules only save time or work: without them the protocol must
still be safe, and the table says so.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

from protocol.core import requester as core_requester
from protocol.core.auctions import Auctions
from protocol.core.jobs import Job
from protocol.core.provider import Provider
from protocol.core.unpaid import Unpaid
from protocol.machines import requester
from protocol.machines.context import Context
from protocol.machines.effects import Effect, Extend, Launch, Send
from protocol.machines.events import Failed
from protocol.machines.inputs import DeadlineReached, MembersHeld, MembersReady
from protocol.machines.provider import lease
from protocol.rules import selection
from protocol.values.ids import NO_LEASE
from protocol.values.reasons import Release
from protocol.wire.messages import (
    AwardAccept,
    CheckpointAck,
    Heartbeat,
    LeaseRelease,
    Ready,
    Start,
    Voucher,
)
from tests.faults.network import FaultyNetwork
from tests.simulated_node import Node

NEVER_MS: Final = 10**12
Patch = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken rule: in the code of the machines, or in the order of the driver."""

    name: str
    rule: str
    """What is broken, in one line."""
    safe: bool = False
    """Whether nothing but time is lost: the runs must find nothing."""
    patch: Patch = nullcontext
    drive: Callable[[FaultyNetwork], None] = lambda network: None


@contextmanager
def changed(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Change an attribute while in this context."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _rows(table: Any, rows: Mapping[tuple[type, type], Any]) -> Iterator[None]:
    before = dict(table)
    table.update(rows)
    try:
        yield
    finally:
        table.update(before)


def _early(*classes: type) -> Callable[[FaultyNetwork], None]:
    """Return a driver that performs some effects, or sends some messages, before the commit."""

    def drive(network: FaultyNetwork) -> None:
        def is_early(effect: Effect) -> bool:
            sent = isinstance(effect, Send)
            what = network.history.opened[effect.envelope].message if sent else effect
            return isinstance(what, classes)

        network.rules.early = is_early

    return drive


def _without_fence(network: FaultyNetwork) -> None:
    def is_fence(node: Node, effect: Effect) -> bool:
        if not isinstance(effect, Send):
            return False
        message = network.history.opened[effect.envelope].message
        place = network.history.places.get(getattr(message, "lease_id", None))
        ours = place is not None and place.requester == node.peer_id
        return ours and isinstance(message, LeaseRelease) and message.reason == Release.FENCED

    network.rules.dropped = is_fence


def _without_hold_ttl() -> AbstractContextManager[None]:
    def wait(
        state: Any, event: DeadlineReached, context: Context
    ) -> tuple[Any, tuple[Effect, ...]]:
        return replace(state, deadline_ms=context.now_ms + NEVER_MS), ()

    holds = (lease.Held, lease.Active, lease.Waiting)
    return _rows(lease.TRANSITIONS, {(state, DeadlineReached): wait for state in holds})


def _voucher_as_told() -> AbstractContextManager[None]:
    table, pair = requester.lease.TRANSITIONS, (requester.lease.Executing, Heartbeat)
    pay = table[pair]
    return _rows(table, {pair: lambda state, *rest: pay(replace(state, paid_ms=0), *rest)})


def _same_attempt() -> AbstractContextManager[None]:
    after_failure = core_requester.after_failure

    def again(job: Job, failed: Failed, *more: Any) -> tuple[Job, Failed]:
        following, told = after_failure(job, failed, *more)
        return replace(following, attempt=min(job.attempt, following.attempt)), told

    return changed(core_requester, "after_failure", again)


def _gang_alone() -> AbstractContextManager[None]:
    table = requester.lease.TRANSITIONS
    launch = table[requester.lease.Deploying, MembersReady]
    return _rows(table, {(requester.lease.Deploying, Ready): launch})


def _gang_half() -> AbstractContextManager[None]:
    table, pair = requester.award.TRANSITIONS, (requester.award.Awarding, AwardAccept)
    accept = table[pair]

    def alone(state: Any, *rest: Any) -> tuple[Any, tuple[Effect, ...]]:
        return accept(replace(state, placement=replace(state.placement, gang=False)), *rest)

    return _rows(table, {pair: alone})


def _gang_unmeasured() -> AbstractContextManager[None]:
    table, pair = requester.award.TRANSITIONS, (requester.award.Accepted, MembersHeld)
    join = table[pair]

    def anywhere(state: Any, *rest: Any) -> tuple[Any, tuple[Effect, ...]]:
        placement = replace(state.placement, max_round_trip_us=0)
        return join(replace(state, placement=placement), *rest)

    return _rows(table, {pair: anywhere})


@contextmanager
def _gang_crowded() -> Iterator[None]:
    anywhere = lambda *_: True  # noqa: E731 (it is one value)
    with changed(selection, "is_open", anywhere), changed(Auctions, "_goes_with", anywhere):
        yield


def _resume_older() -> AbstractContextManager[None]:
    return changed(core_requester.Requester, "_note_resume_points", lambda *_: [])


def _flag(name: str, value: Any) -> Callable[[FaultyNetwork], None]:
    return lambda network: setattr(network.rules, name, value)


def _successor_early() -> AbstractContextManager[None]:
    serve = lease.TRANSITIONS[lease.Waiting, Start]

    def at_once(state: lease.Waiting, *rest: Any) -> Any:
        return serve(replace(state, hold=replace(state.hold, after=NO_LEASE)), *rest)

    return _rows(lease.TRANSITIONS, {(lease.Waiting, Start): at_once})


def _no_tombstone() -> AbstractContextManager[None]:
    return changed(Provider, "_fence", lambda *_: None)


def _unlimited() -> AbstractContextManager[None]:
    return changed(Unpaid, "refusal", lambda *_: None)


MUTANTS: Final = (
    Mutant("start-early", "Start is sent before its intent is durable", drive=_early(Start)),
    Mutant("no-fence", "a lease is replaced without a durable fence", drive=_without_fence),
    Mutant("no-hold-ttl", "a hold never expires", patch=_without_hold_ttl),
    Mutant("no-deadman", "the sandbox does not enforce the budget",
           drive=_flag("enforces_budgets", False)),
    Mutant("voucher-as-told", "a voucher follows the heartbeat, not the highest one so far",
           patch=_voucher_as_told),
    Mutant("same-attempt", "a new auction of a job keeps the number of the old",
           patch=_same_attempt),
    Mutant("voucher-early", "a voucher is sent before its number is durable",
           drive=_early(Voucher)),
    Mutant("extend-early", "the budget grows before the voucher is durable",
           drive=_early(Extend)),
    Mutant("ack-early", "a message is acknowledged before it is durable",
           drive=_flag("acknowledges_early", True)),
    Mutant("outbox-in-memory", "the outbox is lost in a crash",
           drive=_flag("keeps_outbox", False)),
    Mutant("launch-again", "a second Launch starts a second container",
           drive=_flag("launches_once", False)),
    Mutant("no-reaper", "a restart leaves containers without a lease",
           drive=_flag("reaps", False)),
    Mutant("gang-half", "a member of a gang is confirmed before the others hold their slots",
           patch=_gang_half),
    Mutant("gang-alone", "a member of a gang is started before the others are ready",
           patch=_gang_alone),
    Mutant("gang-unmeasured", "a gang is confirmed before its members have measured",
           patch=_gang_unmeasured),
    Mutant("gang-crowded", "a gang that is to be spread has two members in a region",
           patch=_gang_crowded),
    Mutant("successor-early", "a job is launched while the one before it on its slot runs",
           patch=_successor_early),
    Mutant("unlimited", "a requester gets leases whatever it owes", patch=_unlimited),
    Mutant("checkpoint-early", "a checkpoint is acknowledged before the resume point is durable",
           drive=_early(CheckpointAck)),
    Mutant("resume-older", "an attempt resumes from where the one before began",
           patch=_resume_older),
    Mutant("accept-early", "AwardAccept is sent before the hold is durable", safe=True,
           drive=_early(AwardAccept)),
    Mutant("launch-early", "the container starts before the lease says so on disk", safe=True,
           drive=_early(Launch)),
    Mutant("no-tombstone", "a release that overtakes its award is forgotten", safe=True,
           patch=_no_tombstone),
)  # fmt: skip
BY_NAME: Final = {mutant.name: mutant for mutant in MUTANTS}
