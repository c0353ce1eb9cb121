"""Explains a job: which known nodes can serve it, what would help, what happened so far.

Spec: specs/advice.md. It answers from the directory, without asking anybody.
"""

from dataclasses import dataclass, replace
from typing import Any

from node.driver.clock import Clock
from node.driver.job_events import event_view
from node.rpc.explain_views import (
    ChangeView,
    ExplanationView,
    MismatchView,
    NearMissView,
    PriceOutlookView,
    StartOutlookView,
    WaitView,
)
from node.service.jobs import JobService
from node.storage.journal import Journal
from protocol.core.core import Core
from protocol.rules.advice import Advice
from protocol.values.ids import PeerId
from protocol.values.units import hourly_of_rate
from protocol.wire.job import JobSpec


@dataclass(frozen=True, slots=True)
class AdviceService:
    """Implements node.rpc.service.AdviceApi."""

    core: Core
    journal: Journal
    clock: Clock
    jobs: JobService

    def dry_run(self, spec: JobSpec) -> ExplanationView:
        return self._explain(spec, ())

    async def explain(self, reference: str) -> ExplanationView:
        job, told = await self.jobs.job(reference)
        view = self._explain(job.spec, job.avoid)
        rows = [event_view(row) for row in await self.journal.events(job.job_id)]
        waits = tuple(_wait(row.at_ms, row.detail) for row in rows if row.kind == "queued")
        start, place = view.start, self.core.place_of(job.job_id)
        if place is not None:
            now_ms = self.clock.now_ms()
            start = replace(
                start, place=place.place, why=place.why, retry_in_ms=_in(place.retry_ms, now_ms),
                gives_up_in_ms=_in(place.until_ms, now_ms),
            )  # fmt: skip
        return replace(view, start=start, job=told, waits=waits)

    def _explain(self, spec: JobSpec, avoid: tuple[PeerId, ...]) -> ExplanationView:
        now_ms = self.clock.now_ms()
        advice = self.core.advise(spec, avoid, now_ms)
        outlook = self.core.outlook(spec, avoid)
        told = advice.explanation
        return ExplanationView(
            nodes=told.nodes,
            eligible=told.eligible,
            failed_before=advice.avoided,
            why=told.why,
            mismatches=tuple(
                MismatchView(reason.value, count, why)
                for (reason, count), why in zip(told.reasons, told.sentences, strict=True)
            ),
            near_misses=tuple(
                NearMissView(miss.peer, miss.reason.value, miss.wanted, miss.has)
                for miss in advice.near
            ),
            changes=tuple(
                ChangeView(change.field, change.value, change.nodes) for change in advice.changes
            ),
            price=_price(advice),
            start=StartOutlookView(
                advice.answering, outlook.jobs, None, outlook.why,
                _in(outlook.retry_ms, now_ms), None, advice.with_image, advice.with_layers,
            ),
            slots=told.slots, nodes_wanted=spec.terms.nodes,
            too_few=told.too_few,
        )  # fmt: skip


def _price(advice: Advice) -> PriceOutlookView | None:
    if advice.cap is None or not advice.listed:
        return None
    listed, cap = advice.listed, advice.cap
    return PriceOutlookView(
        hourly_of_rate(listed[0]), hourly_of_rate(listed[len(listed) // 2]),
        hourly_of_rate(listed[-1]), hourly_of_rate(cap.rate), cap.why,
    )  # fmt: skip


def _in(at_ms: int | None, now_ms: int) -> int | None:
    return None if at_ms is None else max(0, at_ms - now_ms)


def _wait(at_ms: int, detail: Any) -> WaitView:
    return WaitView(at_ms, detail["attempt"], detail["reason"], detail["why"])
