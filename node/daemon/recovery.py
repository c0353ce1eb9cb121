"""What an earlier run of this node wrote down, and how this run goes on with it.

Spec: specs/core.md#recovery.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

from node.daemon.executions import Workshop
from node.daemon.listing import pin_listing
from node.storage.journal import Journal, OutboxRow
from protocol.core.core import Core
from protocol.core.jobs import Ending, Job
from protocol.machines import auction, lease, serving
from protocol.machines.context import Context
from protocol.machines.effects import Effect
from protocol.machines.inputs import PolicyChanged
from protocol.values.errors import BlobUnavailable
from protocol.values.ids import Digest
from protocol.wire.snapshot import from_snapshot

SEQUENCE_FACT: Final = "record-sequence"
LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Past:
    """Everything that was written down and still counts."""

    jobs: tuple[Job, ...]
    auctions: tuple[auction.State, ...]
    leases: tuple[lease.State, ...]
    servings: tuple[serving.State, ...]
    outbox: tuple[OutboxRow, ...]
    sequence: int
    """The sequence number of our last capability record."""


async def recall(journal: Journal, shop: Workshop, now_ms: int) -> Past:
    """Read the journal; remove run folders of leases that are over; keep what is still owed."""
    for late in await journal.drop_expired(now_ms):
        LOG.info("a message for %s is dropped: its time is over", late.peer)
    past = Past(
        await _states(journal, "job", Job),
        await _states(journal, "auction", auction.State),
        await _states(journal, "lease", lease.State),
        await _states(journal, "serving", serving.State),
        await journal.outbox(),
        int.from_bytes(await journal.fact(SEQUENCE_FACT) or b""),
    )
    await _tidy_runs(past, shop)
    await _keep_blobs(past, shop)
    return past


def resume(core: Core, past: Past, context: Context) -> Sequence[Effect]:
    """Give the core what it must know; return what has to be done for it."""
    core.presence.sequence = past.sequence
    return [
        *core.handle(PolicyChanged(context.policy), context.now_ms),
        *core.market.recover(past.servings, context),
        *core.recover(past.jobs, past.auctions, past.leases, context.now_ms),
    ]


async def _states(journal: Journal, table: str, declared: Any) -> tuple[Any, ...]:
    return tuple(
        from_snapshot(declared, snapshot.data)
        for snapshot in await journal.snapshots(table)
        if snapshot.data is not None
    )


async def _tidy_runs(past: Past, shop: Workshop) -> None:
    if shop.sandbox is None:
        return
    wanted = {shop.run_folder(state.hold.lease_id) for state in past.servings}
    found = [shop.runs / entry.name for entry in await trio.Path(shop.runs).iterdir()]
    for folder in found:
        if folder not in wanted:
            LOG.info("removing the run folder %s: its lease is over", folder.name)
            await shop.sandbox.remove(folder)
    await shop.sandbox.reap(frozenset(folder.name for folder in found if folder in wanted))


async def _keep_blobs(past: Past, shop: Workshop) -> None:
    blobs = shop.blobs
    for job in past.jobs:
        if job.ending is Ending.OPEN:
            inputs = [file.blob.digest for file in job.spec.workload.inputs]
            blobs.pin(f"input {job.job_id.hex()}", job.spec.workload.image, *inputs)
    for state in past.servings:
        if isinstance(state, serving.Settling) and state.receipt.outputs:
            owner = f"lease {state.hold.lease_id.hex()}"
            try:
                await pin_listing(blobs, owner, Digest(state.receipt.outputs))
            except BlobUnavailable as error:
                LOG.warning("outputs that a requester has not fetched are gone: %s", error)
