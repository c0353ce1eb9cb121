"""Logs what happens to jobs, for people: to our own, and to those that we run for others.

Spec: specs/operation.md#jobs.
"""

import logging
from typing import Any, Final

from node.driver.job_events import kind_of
from protocol.core.candidates import LOOKED_AT_MAX as COUNTED_MAX
from protocol.machines import effects, events
from protocol.machines.provider.lease import Leaving, Serving, Settling
from protocol.values.ids import LeaseId, PeerId
from protocol.values.units import credits_of_nano, hourly_of_rate

LOG: Final = logging.getLogger(__name__)
ID_DIGITS: Final = 12


class JobLog:
    """Logs when a job starts, pauses, resumes and ends."""

    def __init__(self) -> None:
        self._served: dict[LeaseId, PeerId] = {}
        """The running executions for others, with their requesters."""
        self._paused: set[LeaseId] = set()
        self._told: set[LeaseId] = set()
        """Jobs that were told of a stop of this node, its last act."""

    def reported(self, report: effects.Report) -> None:
        """Log an event of a job of our own."""
        LOG.info("job %s: %s", report.job_id.hex()[:ID_DIGITS], words_of(report.event))

    def launched(self, launch: effects.Launch) -> None:
        """Log that a job of another peer starts here."""
        self._served[launch.lease_id] = launch.requester
        LOG.info("a job of a peer starts here", extra=_facts(launch.lease_id, launch.requester))

    def _say_paused(self, lease_id: LeaseId, state: Serving) -> None:
        if state.is_paused == (lease_id in self._paused):
            return
        facts = _facts(lease_id, state.hold.requester)
        if state.is_paused:
            self._paused.add(lease_id)
            LOG.info("a job of a peer is paused here: its requester does not pay", extra=facts)
        else:
            self._paused.discard(lease_id)
            LOG.info("a job of a peer is resumed here", extra=facts)

    def saved(self, lease_id: LeaseId, state: Any) -> None:
        """Log that a job of another peer has ended, or is paused or resumed.

        `state` is the state of its lease, None if the lease is gone.
        """
        if isinstance(state, Serving):
            self._say_paused(lease_id, state)
            return
        if isinstance(state, Leaving) and lease_id not in self._told:
            self._told.add(lease_id)
            facts = _facts(lease_id, state.hold.requester)
            LOG.info("a job of a peer was told that it ends soon", extra=facts)
        if state is not None and not isinstance(state, Settling):
            return
        self._paused.discard(lease_id)
        requester = self._served.pop(lease_id, None)
        if requester is None:
            return
        facts = _facts(lease_id, requester)
        if state is None:
            LOG.info("a job of a peer ended here, without a bill", extra=facts)
            return
        bill = state.receipt
        facts |= {
            "exit": bill.exit_code,
            "seconds": bill.usage_ms / 1000,
            "earned": credits_of_nano(bill.amount),
        }
        LOG.info("a job of a peer ended here", extra=facts)


def words_of(event: events.JobEvent) -> str:
    """Return an event of a job of our own in words."""
    match event:
        case events.Queued(why=why):
            return f"waiting for capacity: {why}"
        case events.Announced(nodes=nodes, eligible=eligible):
            about = "about " if nodes > COUNTED_MAX else ""
            return f"asking for bids; {about}{eligible} of {nodes} known nodes can run it"
        case events.BidsOpened(bids=bids):
            return f"{len(bids)} bid{'' if len(bids) == 1 else 's'}"
        case events.Awarded(provider=peer, rate=rate, start_ms=start_ms):
            start = f", to start within {start_ms / 1000:.1f} s" if start_ms else ""
            return f"awarded to {short(peer)} for {hourly_of_rate(rate)} credits an hour{start}"
        case events.Fetching(provider=peer):
            return f"{short(peer)} fetches image and inputs"
        case events.Starting(provider=peer):
            return f"{short(peer)} has image and inputs, and starts the job"
        case events.Running(provider=peer, late_ms=late_ms):
            late = f", {late_ms / 1000:.1f} s later than promised" if late_ms else ""
            return f"running at {short(peer)}{late}"
        case _:
            return _words_after_start(event)


def short(peer: PeerId) -> str:
    """Return the end of a peer id, which distinguishes peers; all ids begin alike."""
    return peer[-8:]


def _words_after_start(event: events.JobEvent) -> str:
    match event:
        case events.Checkpointed(number=number, size=size):
            return f"checkpoint {number} is here ({size} bytes)"
        case events.Preempted(provider=peer, notice_ms=notice_ms):
            return f"{short(peer)} ends it in {notice_ms // 1000} s; the job was told"
        case events.Cancelling(provider=peer):
            return f"cancelling; {short(peer)} stops the job"
        case events.Returning(exit_code, usage_ms):
            return f"exited with {exit_code} after {usage_ms / 1000} s; fetching log and outputs"
        case events.Done(exit_code=exit_code, amount=amount):
            return f"done: exit code {exit_code}, paid {credits_of_nano(amount)} credits"
        case events.Retrying(why=why):
            return f"this attempt failed; another follows: {why}"
        case events.Failed(why=why, amount=amount):
            paid = f"; paid {credits_of_nano(amount)} credits" if amount else ""
            return f"ended without a result: {why}{paid}"
        case _:
            return kind_of(event)


def _facts(lease_id: LeaseId, requester: PeerId) -> dict[str, object]:
    return {"lease": lease_id.hex()[:ID_DIGITS], "requester": short(requester)}
