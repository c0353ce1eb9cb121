"""What was paid lately: from this node's receipts, and from the outcomes of auctions that it saw.

Spec: specs/bids.md#prices.
"""

from collections.abc import Callable, Iterable
from typing import Final

from node.driver.job_events import event_view
from node.rpc.views import PaidPriceView
from node.storage.journal import JobEventRow, Journal
from protocol.core.jobs import Job
from protocol.machines.answers import AnsweredCall
from protocol.rules.paid_prices import PaidPrice, Sale
from protocol.values.ids import PeerId
from protocol.values.units import hourly_of_rate
from protocol.wire.messages import CapabilityRecord
from protocol.wire.snapshot import from_snapshot

JOBS_MAX: Final = 200
"""The newest jobs of this node whose receipts count."""

RecordOf = Callable[[PeerId], CapabilityRecord | None]


async def sales_of_jobs(journal: Journal, record_of: RecordOf) -> list[Sale]:
    """Return what this node paid for its newest jobs."""
    sales = []
    for row in await journal.jobs(JOBS_MAX):
        job: Job = from_snapshot(Job, row.data)
        sale = sale_of_job(job, await journal.events(row.job_id), record_of)
        sales += [sale] if sale else []
    return sales


def sale_of_job(job: Job, rows: Iterable[JobEventRow], record_of: RecordOf) -> Sale | None:
    """Return what was paid for a job; None if there is no receipt with an amount."""
    events = {row.kind: event_view(row) for row in rows}  # Of each kind the last one counts.
    awarded, done = events.get("awarded"), events.get("done")
    if awarded is None or done is None or not done.detail["amount"]:
        return None
    rate, provider = awarded.detail["rate"], awarded.detail["provider"]
    assert isinstance(rate, int)
    resources = job.spec.workload.resources
    return Sale(resources, rate, done.at_ms, record_of(PeerId(str(provider))))


def sale_of_call(answered: AnsweredCall, own: PeerId, record_of: RecordOf) -> Sale | None:
    """Return what was agreed in an auction that this node saw; None if nobody is known to win."""
    seller = own if answered.awards else answered.winner
    if seller is None:
        return None
    return Sale(answered.resources, answered.price, answered.at_ms, record_of(seller))


def paid_price_view(price: PaidPrice) -> PaidPriceView:
    """Return the prices of a class and region an hour."""
    return PaidPriceView(
        price.slot_class, price.region, price.count, hourly_of_rate(price.lowest),
        hourly_of_rate(price.median), hourly_of_rate(price.highest), price.latest_ms,
    )  # fmt: skip
