"""What explains a job before and after it is submitted, as the API shows it.

Spec: specs/rpc.md#views.
"""

from dataclasses import dataclass

from node.rpc.job_views import JobView


@dataclass(frozen=True, slots=True)
class MismatchView:
    """How many known nodes fail a constraint of a job; `code` is stable."""

    code: str
    nodes: int
    why: str


@dataclass(frozen=True, slots=True)
class NearMissView:
    """A node that fails one constraint of a job alone."""

    peer: str
    code: str
    wanted: str
    has: str


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A change of one field of a job request, and how many more nodes could serve the job.

    `value` is written as in a job file; None means to leave the field out.
    """

    field: str
    value: str | None
    nodes: int


@dataclass(frozen=True, slots=True)
class PriceOutlookView:
    """What nodes that fit list for a job, in credits per hour, and the cap of its first call."""

    lowest_hour: str
    median_hour: str
    highest_hour: str
    cap_hour: str
    why: str


@dataclass(frozen=True, slots=True)
class StartOutlookView:
    """When a job may start, as far as this node knows."""

    answering: int
    """The nodes that fit and answered an earlier call."""
    waiting: int
    """The jobs of this node that wait."""
    place: int | None
    """The place of this job among them; None if it does not wait."""
    why: str
    """Why it waits, or would wait; empty if only for its turn."""
    retry_in_ms: int | None
    """When it calls for bids again; None if at its turn."""
    gives_up_in_ms: int | None
    with_image: int = 0
    """The nodes that fit and have the image unpacked."""
    with_layers: int = 0
    """Others of them that have some of its large layers."""


@dataclass(frozen=True, slots=True)
class WaitView:
    """A time at which a job began to wait, and why."""

    at_ms: int
    attempt: int
    reason: str
    why: str


@dataclass(frozen=True, slots=True)
class ExplanationView:
    """How the known nodes relate to a job, and what happened to it so far.

    `job` is None for a job that is not submitted.
    """

    nodes: int
    eligible: int
    failed_before: int
    why: str
    mismatches: tuple[MismatchView, ...]
    near_misses: tuple[NearMissView, ...]
    changes: tuple[ChangeView, ...]
    price: PriceOutlookView | None
    """None if no known node fits."""
    start: StartOutlookView
    slots: int = 0
    """How many slots the eligible nodes have, if none is taken."""
    nodes_wanted: int = 1
    """How many slots the job needs at the same time."""
    too_few: str = ""
    """One line if the slots are too few for a gang; empty if they suffice, or there are none."""
    job: JobView | None = None
    waits: tuple[WaitView, ...] = ()
