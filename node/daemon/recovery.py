"""What an earlier run of this node saved, and how this run resumes from it.

Spec: specs/core.md#recovery.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from node.data.images import Images
from node.data.output_manifest import pin_listing, read_listing
from node.driver.job_events import LAST, phase_of
from node.messaging.announcer import SEQUENCE_FACT
from node.provider.checkpoints import checkpoint_pins_of
from node.provider.execution_context import ExecutionContext, pins_of
from node.provider.proofs import Proofs
from node.requester.results import resume_pins_of
from node.sandbox.driver import name_of
from node.service.images import pins_of_job
from node.storage.journal import Journal, OutboxRow
from protocol.core.core import Saved
from protocol.core.jobs import Job
from protocol.machines import provider, requester
from protocol.values.errors import BlobUnavailable, InvalidRequest, SandboxUnavailable
from protocol.values.ids import Digest, JobId
from protocol.wire.snapshot import from_snapshot

RECEIPTS_READ: Final = 100_000  # Peers with older receipts only are strangers again.
LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Past:
    """Everything that was saved and is still valid."""

    saved: Saved
    """The state that the core recovers."""
    outbox: tuple[OutboxRow, ...]
    phases: Mapping[JobId, str]
    """The phases of open jobs, as the API shows them."""
    counts: Mapping[str, int]
    """The number of jobs in each state, ended ones included."""


async def recall(journal: Journal, context: ExecutionContext, proofs: Proofs, now_ms: int) -> Past:
    """Read journal and proofs; remove run folders of ended leases; pin the blobs still needed."""
    for late in await journal.drop_expired(now_ms):
        LOG.info("a message for %s is discarded: its deadline has passed", late.peer)
    jobs: tuple[Job, ...] = tuple(from_snapshot(Job, row.data) for row in await journal.open_jobs())
    saved = Saved(
        jobs,
        await _states(journal, "award", requester.award.State),
        await _states(journal, "requester-lease", requester.lease.State),
        await _states(journal, "provider-lease", provider.lease.State),
        int.from_bytes(await journal.fact(SEQUENCE_FACT) or b""),
        await journal.settled_peers(RECEIPTS_READ),
        await proofs.read(),
    )
    phases = {job.job_id: await _phase(journal, job) for job in jobs}
    await _tidy_runs(saved, context)
    await _keep_blobs(saved, context)
    return Past(saved, await journal.outbox(), phases, await journal.count_jobs())


async def _states(journal: Journal, table: str, declared: Any) -> tuple[Any, ...]:
    return tuple(
        from_snapshot(declared, snapshot.data)
        for snapshot in await journal.snapshots(table)
        if snapshot.data is not None
    )


async def _phase(journal: Journal, job: Job) -> str:
    """Return the phase of an open job; that of one which is to run again may be its last end."""
    phase = phase_of(await journal.events(job.job_id))
    return "queued" if phase in LAST else phase


async def _tidy_runs(saved: Saved, context: ExecutionContext) -> None:
    if context.sandbox is None:
        return
    wanted = {context.run_folder(state.hold.lease_id) for state in saved.leases_provided}
    found = [context.runs / entry.name for entry in await trio.Path(context.runs).iterdir()]
    names = frozenset(name_of(state.hold.lease_id) for state in saved.leases_provided)
    over = [partial(context.sandbox.remove, folder) for folder in found if folder not in wanted]
    for tidy in (*over, partial(context.sandbox.reap, names)):
        try:
            await tidy()
        except SandboxUnavailable as error:  # The next start tries again.
            LOG.warning("some containers of an earlier run remain: %s", error)


async def _keep_blobs(saved: Saved, context: ExecutionContext) -> None:
    for job in saved.jobs:
        workload = job.spec.workload
        inputs = [file.blob.digest for file in workload.inputs]
        parts = await _parts(context.images, workload.image)
        context.blobs.pin(pins_of_job(job.job_id), workload.image, *parts, *inputs)
        if job.resume is not None:
            await _keep_listed(job.resume.listing.digest, resume_pins_of(job.job_id), context)
    for state in saved.leases_provided:
        lease_id = state.hold.lease_id
        match state:
            case provider.lease.Waiting() | provider.lease.Serving():
                parts = await _parts(context.images, state.workload.image)
                context.pin_inputs(lease_id, state.workload, *parts)
                context.pin_unpacked(lease_id, state.workload)
                for checkpoint in state.workload.resume:
                    await _keep_listed(checkpoint.digest, pins_of(lease_id), context)
                if isinstance(state, provider.lease.Serving):
                    await _keep_offered(state, context)
            case provider.lease.Settling() if state.receipt.outputs:
                await _keep_listed(Digest(state.receipt.outputs), pins_of(lease_id), context)


async def _parts(images: Images, image: Digest) -> list[Digest]:
    """Return the digests of an image's parts; none if its manifest is missing or invalid."""
    try:
        return [part.digest for part in await images.parts(image)]
    except (BlobUnavailable, InvalidRequest) as error:
        LOG.warning("an image that is still needed is unusable: %s", error)
        return []


async def _keep_offered(state: provider.lease.Serving, context: ExecutionContext) -> None:
    """Pin the checkpoint that a requester may be fetching."""
    checkpoint = provider.lease.offered(state)
    if checkpoint is not None:
        owner = checkpoint_pins_of(state.hold.lease_id)
        await _keep_listed(checkpoint.listing.digest, owner, context)


async def _keep_listed(digest: Digest, owner: str, context: ExecutionContext) -> None:
    try:
        pin_listing(context.blobs, owner, digest, await read_listing(context.blobs, digest))
    except BlobUnavailable as error:
        LOG.warning("outputs or a checkpoint that are still needed are gone: %s", error)
