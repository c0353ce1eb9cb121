"""A job as its user sees it: the fold over its events.

Spec: specs/core.md#job-events.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from node.driver.job_events import LAST, PHASES, event_view
from node.rpc.job_views import (
    BidView,
    CheckpointView,
    FailedAttemptView,
    JobEventView,
    JobView,
    ReceiptView,
    StepsView,
)
from node.storage.journal import JobEventRow
from protocol.core.jobs import Job
from protocol.values.reasons import Failure
from protocol.values.units import credits_of_nano, hourly_of_rate
from protocol.wire.codec import unpack

FAILURES: Final = frozenset({"retry", "failed"})
"""Each ends an attempt without a result."""
EXIT_REASONS: Final = {
    "timeout": Failure.TIME_OUT.value,
    "memory": Failure.OUT_OF_MEMORY.value,
    "disk": Failure.OUT_OF_DISK.value,
}


def job_view(job: Job, rows: Iterable[JobEventRow]) -> JobView:
    """Return a job as its user sees it."""
    spec = job.spec
    view = JobView(
        id=job.job_id.hex(),
        name=spec.name,
        phase="queued",
        image=spec.workload.image.hex(),
        command=spec.workload.command,
        submitted_ms=job.submitted_ms,
        image_name=spec.image_name,
    )
    happened = [event_view(row) for row in rows]
    run, retries = _last_run(happened, job.submitted_ms), 0
    for event in run:
        view = dataclasses.replace(view, **_changes(event.kind, event.detail))
        retries += event.kind == "retry"
        if event.kind == "awarded":  # Of a losing bid that stood by there was no new call.
            view = dataclasses.replace(view, attempts=retries + 1)
        if event.kind == "checkpoint":
            number, size = event.detail["number"], event.detail["size"]
            kept = CheckpointView(number, event.at_ms, size)  # type: ignore[arg-type]
            view = dataclasses.replace(view, checkpoint=kept)
        if event.kind == "preempted":
            stops_ms = event.at_ms + event.detail["notice_ms"]  # type: ignore[operator]
            view = dataclasses.replace(view, stops_ms=stops_ms)
        if event.kind in LAST:
            view = dataclasses.replace(view, ended_ms=event.at_ms)
    if sum(bid.eligible for bid in view.bids) < 2:  # Then the job's own limit set the price.
        view = dataclasses.replace(view, runner_up_hour=None)
    return dataclasses.replace(
        view, failed_attempts=_failed_attempts(happened), cost=_cost(happened),
        steps=_steps(job.submitted_ms, run),
    )  # fmt: skip


def _last_run(happened: list[JobEventView], submitted_ms: int) -> list[JobEventView]:
    """Return the events since the user had an ended job run again, which submits it anew."""
    ends = [
        place for place, event in enumerate(happened, 1)
        if event.kind in LAST and (place < len(happened) or event.at_ms < submitted_ms)
    ]  # fmt: skip
    return happened[ends[-1] :] if ends else happened


def _changes(kind: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return which fields of the view an event changes."""
    phase = {"phase": PHASES.get(kind, kind)}
    match kind:
        case "queued" | "retry":
            return {**phase, "reason": detail["reason"], "why": detail["why"]}
        case "waiting" | "announced":
            # The data of an earlier attempt is obsolete.
            fresh = {
                "bids": (), "provider": None, "price_hour": None, "runner_up_hour": None,
                "promised_ms": None, "late_ms": None,
                "exit_code": None, "usage_ms": None, "stops_ms": None,
            }  # fmt: skip
            return {**phase, **fresh, **_cap(detail), "attempts": detail["attempt"] + 1}
        case "bids":
            bids = tuple(
                BidView(bid["peer"], hourly_of_rate(bid["bid"]["ask"]), bid["eligible"])
                for bid in detail["bids"]
            )
            return {**phase, "bids": bids}
        case "awarded":
            return {
                **phase,
                "provider": detail["provider"],
                "price_hour": hourly_of_rate(detail["rate"]),
                "runner_up_hour": hourly_of_rate(detail["runner_up"]),
                "promised_ms": detail.get("start_ms") or None,
                "exit_code": None,
                "usage_ms": None,
                "stops_ms": None,
            }
        case "fetching":
            return {**phase, "resumes_from": detail.get("resumes_from") or None}
        case "running":
            return {**phase, "late_ms": detail.get("late_ms") or None}
        case "returning":
            return {**phase, "exit_code": detail["exit_code"], "usage_ms": detail["usage_ms"]}
        case "done":
            return {**phase, **_result(detail), "stops_ms": None}
        case "failed":
            cancelled = detail["reason"] == Failure.CANCELLED
            ended = "cancelled" if cancelled else "failed"
            used = {"usage_ms": detail["usage_ms"]} if detail.get("usage_ms") else {}
            return {"phase": ended, "reason": detail["reason"], "why": detail["why"], **used}
        case _:
            return phase


def _cap(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return the most that a call pays, and why; a waiting job and an older event have neither."""
    rate = detail.get("rate_max")
    return {"cap_hour": hourly_of_rate(rate) if rate else None, "cap_why": detail.get("why")}


def _result(detail: Mapping[str, Any]) -> dict[str, Any]:
    proposal, countersign = bytes.fromhex(detail["proposal"]), bytes.fromhex(detail["countersign"])
    receipt = ReceiptView(
        detail["usage_ms"], credits_of_nano(detail["amount"]), _signature(proposal),
        _signature(countersign),
    )  # fmt: skip
    reason = detail["reason"]
    return {
        "exit_code": detail["exit_code"],
        "usage_ms": detail["usage_ms"],
        "amount": credits_of_nano(detail["amount"]),
        "reason": None if reason == "exited" else EXIT_REASONS.get(reason, reason),
        "why": detail["detail"] or detail["dispute"] or None,
        "output_digest": detail["outputs"],
        "receipt": receipt,
    }


def _failed_attempts(happened: Iterable[JobEventView]) -> tuple[FailedAttemptView, ...]:
    failures: list[Any] = [event.detail for event in happened if event.kind in FAILURES]
    return tuple(
        FailedAttemptView(
            number,
            detail.get("provider") or None,
            detail["reason"],
            detail["why"],
            # Events of an older version do not hold the payment.
            detail.get("usage_ms", 0),
            credits_of_nano(detail.get("amount", 0)),
        )
        for number, detail in enumerate(failures, 1)
    )


def _cost(happened: Iterable[JobEventView]) -> str | None:
    """Return the cost of all attempts; None if nothing was used."""
    endings: list[Any] = [event.detail for event in happened if event.kind in FAILURES | LAST]
    paid = [detail["amount"] for detail in endings if detail.get("usage_ms")]
    return credits_of_nano(sum(paid)) if paid else None


def _signature(envelope: bytes) -> str:
    """Return the signature of an envelope in hex; "" if the envelope is missing or malformed."""
    try:
        match unpack(envelope):
            case [_, _, _, _, bytes(signature)]:
                return signature.hex()
    except ValueError:
        return ""
    return ""


def _steps(submitted_ms: int, happened: Iterable[JobEventView]) -> StepsView:
    """Return how long each step of the last attempt took."""
    marks = {"submitted": submitted_ms}
    for event in happened:
        if event.kind == "retry":
            marks = {"submitted": event.at_ms}
        marks[event.kind] = event.at_ms

    def between(begin: str, end: str) -> int | None:
        first, last = marks.get(begin), marks.get(end)
        # A restart between two events may have set the clock back.
        return None if first is None or last is None else max(0, last - first)

    # The call is out when the job is announced; the award is confirmed when fetching begins.
    return StepsView(
        announce_ms=between("submitted", "announced"),
        award_ms=between("announced", "fetching"),
        start_ms=between("fetching", "running"),
        run_ms=between("running", "returning"),
        return_ms=between("returning", "done"),
    )
