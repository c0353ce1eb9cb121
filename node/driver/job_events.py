"""The events of a job, as the journal stores them and as users and scripts read them.

Spec: specs/core.md#job-events.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Final

from node.rpc.job_views import JobEventView
from node.storage.journal import JobEventRow
from protocol.machines import events

KINDS: Final[Mapping[type, str]] = {
    events.Queued: "queued",
    events.Announced: "announced",
    events.BidsOpened: "bids",
    events.Awarded: "awarded",
    events.Fetching: "fetching",
    events.Starting: "starting",
    events.Running: "running",
    events.Checkpointed: "checkpoint",
    events.Preempted: "preempted",
    events.Cancelling: "cancelling",
    events.Returning: "returning",
    events.Done: "done",
    events.Retrying: "retry",
    events.Failed: "failed",
}
LAST: Final = frozenset({"done", "failed"})
"""The kinds of a job's last event."""
PHASES: Final = {
    "starting": "fetching", "retry": "queued", "waiting": "queued", "checkpoint": "running",
    "preempted": "running",
}  # fmt: skip
"""Kinds that the user sees as another phase."""


def kind_of(event: events.JobEvent) -> str:
    """Return the name of an event's kind for users and scripts."""
    return KINDS[type(event)]


def detail_of(event: events.JobEvent) -> str:
    """Return an event's fields as JSON; bytes are hex, rates stay nano-credits a second."""
    return json.dumps(dataclasses.asdict(event), default=bytes.hex)


def phase_of(rows: Iterable[JobEventRow]) -> str:
    """Return the current phase of a job, as its user sees it."""
    phase = "queued"
    for row in rows:
        phase = PHASES.get(row.kind, row.kind)
    return phase


def event_view(row: JobEventRow) -> JobEventView:
    """Return an event as the API shows it."""
    return JobEventView(row.seq, row.at_ms, row.kind, json.loads(row.detail))
