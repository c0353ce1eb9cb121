"""A node that starts again goes on with everything that it wrote down, whatever state it is in.

The states are real: they come from tests/simulated_network.py, stopped at the right time.
Spec: specs/core.md#recovery.
"""

from dataclasses import replace
from typing import Any

import pytest
import trio

from node.daemon.recovery import Past, recall
from node.driver.commits import commit_of
from node.messaging.announcer import SEQUENCE_FACT
from node.provider.checkpoints import checkpoint_pins_of
from node.provider.execution_context import pins_of
from node.requester.results import resume_pins_of
from node.sandbox.driver import name_of
from node.storage.journal import Commit, Journal, NewMessage, Snapshot
from protocol.core.core import Core, Saved
from protocol.core.jobs import Ending, Job, ResumePoint
from protocol.core.presence import record_of
from protocol.machines import effects, provider, requester
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Effect, Report, Save, Settle
from protocol.machines.events import Announced, Queued, Running
from protocol.values.errors import SandboxUnavailable
from protocol.values.ids import Digest, LeaseId, digest_of
from protocol.values.reasons import Failure
from protocol.wire.codec import encode
from protocol.wire.job import NO_LOG, BlobRef, FileRef, Outputs
from protocol.wire.messages import Checkpoint
from protocol.wire.snapshot import from_snapshot, to_snapshot
from tests.node.fixtures import ADA, BEA, JOB, LEASE, NodeFolder, ref_of, spec_of
from tests.simulated_network import START_MS, SimulatedNetwork, provider_policy
from tests.simulated_node import Node

Halves = tuple[SimulatedNetwork, Node, Node]


def halted(state: type) -> Halves:
    """Return a network, its requester and its provider, when one of them is in this state."""
    network = SimulatedNetwork()
    ada, bea = network.add("ada"), network.add("bea", provider_policy())
    network.meet()
    job_id = network.submit(ada)

    def there() -> bool:
        core = ada.core
        states = (
            *core.requester.scheduler.auctions.states.values(),
            *core.requester.scheduler.awards.states.values(),
            *core.requester.leases.states.values(),
            *bea.core.provider.leases.values(),
        )
        return any(isinstance(found, state) for found in states)

    if state in {provider.lease.Stopping, requester.lease.Releasing}:
        assert network.run_until(
            lambda: any(
                isinstance(found, requester.lease.Executing)
                for found in ada.core.requester.leases.states.values()
            )
        )
        network.cancel(ada, job_id)
    assert network.run_until(there), state
    return network, ada, bea


async def write(node: Node, journal: Journal) -> None:
    """Let a journal hold what a node of the network wrote."""
    saved = node.disk.saved.items()
    snapshots = tuple(Snapshot(table, key, "open", data) for (table, key), data in saved)
    await journal.commit(Commit(snapshots))


async def resumed(node_folder: NodeFolder, node: Node, policy: Policy) -> tuple[Core, list[Effect]]:
    """Return a new core after the recovery, and what is to be done."""
    past = await recall(node_folder.journal, node_folder.context, node_folder.proofs, 0)
    core = Core(node.signer, Policy())
    # The network has a clock of its own: for the new life it stands still.
    return core, core.recover(past.saved, policy, _latest_ms(past.saved))


def _latest_ms(saved: Saved) -> int:
    states = (*saved.leases, *saved.leases_provided, *saved.awards)
    return min((state.deadline_ms for state in states), default=1_800_000_000_000) - 1


def kinds(wanted: list[Effect]) -> list[str]:
    about_us = (effects.Publish, effects.Advertise)
    return [type(effect).__name__ for effect in wanted if not isinstance(effect, about_us)]


@pytest.mark.parametrize("state, wanted", [
    (provider.lease.Held, []),
    (provider.lease.Active, []),
    (provider.lease.Preparing, ["Prepare"]),
    (provider.lease.Waiting, []),
    (provider.lease.Serving, ["Launch"]),
    (provider.lease.Stopping, ["Kill"]),
    (provider.lease.Settling, []),
])  # fmt: skip
async def test_leases_that_we_serve(bea: NodeFolder, state: type, wanted: list[str]) -> None:
    _, _, bea_node = halted(state)
    await write(bea_node, bea.journal)
    core, done = await resumed(bea, bea_node, bea_node.policy)
    assert kinds(done) == wanted
    (found,) = core.provider.leases.values()
    assert isinstance(found, state)
    assert core.next_deadline_ms() is not None
    taken = core.policy.capacity.cpus - core.provider.left(core.policy.capacity).cpus
    assert taken == (0 if state is provider.lease.Settling else 1)


@pytest.mark.parametrize("state, wanted", [
    (requester.award.Awarding, []),
    (requester.award.Confirming, []),
    (requester.lease.Deploying, []),
    (requester.lease.Launching, []),
    (requester.lease.Executing, ["FollowLog"]),
    (requester.lease.Fetched, ["FetchOutputs"]),
    (requester.lease.Releasing, []),
])  # fmt: skip
async def test_awards_and_leases_of_our_own(
    ada: NodeFolder, state: type, wanted: list[str]
) -> None:
    _, ada_node, _ = halted(state)
    await write(ada_node, ada.journal)
    core, done = await resumed(ada, ada_node, Policy())
    assert kinds(done) == wanted
    (found,) = (
        *core.requester.scheduler.awards.states.values(),
        *core.requester.leases.states.values(),
    )
    assert isinstance(found, state)
    assert len(core.requester.jobs) == 1


@pytest.mark.parametrize("state", [requester.auction.Calling, requester.auction.Opening])
async def test_a_job_whose_auction_was_open_is_called_for_again(
    ada: NodeFolder, state: type
) -> None:
    _, ada_node, bea_node = halted(state)
    await write(ada_node, ada.journal)
    core, done = await resumed(ada, ada_node, Policy())
    (waiting,) = [e.event for e in done if isinstance(e, Report)]
    assert isinstance(waiting, Queued)
    assert waiting.reason is Failure.NO_PEERS, "nobody is known yet"
    record = record_of(Context(START_MS, bea_node.signer, bea_node.policy), 1)
    done = core.handle(bea_node.signer.sign(record), START_MS)
    (announced,) = [e.event for e in done if isinstance(e, Report)]
    assert isinstance(announced, Announced)
    assert announced.attempt == 0
    assert len(core.requester.scheduler.auctions.states) == 1
    assert any(isinstance(effect, effects.Publish) for effect in done)


async def test_jobs_that_have_ended_rest(ada: NodeFolder) -> None:
    workload = await ada.workload()
    ended = [
        Job(JOB[:15] + bytes([number]), spec_of(workload), 1, ending=ending)
        for number, ending in enumerate([Ending.DONE, Ending.FAILED, Ending.CANCELLED])
    ]
    for job in ended:
        await ada.journal.commit(commit_of([Save("job", job.job_id, job)], ADA.peer_id, 1))
    past = await recall(ada.journal, ada.context, ada.proofs, 0)
    assert past.saved.jobs == ()
    assert past.phases == {}
    core = Core(ADA, Policy())
    assert kinds(core.recover(past.saved, Policy(), 5)) == []
    assert core.requester.jobs == {}
    assert ada.blobs._pins == {}


async def test_what_open_jobs_need_is_pinned_and_their_phase_known(ada: NodeFolder) -> None:
    workload = await ada.workload(("a", b"1"))
    job = Job(JOB, spec_of(workload), 1)
    saved = [Save("job", JOB, job), Report(JOB, Running(BEA.peer_id))]
    await ada.journal.commit(commit_of(saved, ADA.peer_id, 1))
    past = await recall(ada.journal, ada.context, ada.proofs, 0)
    assert past.phases == {JOB: "running"}
    parts = {part.digest for part in await ada.images.parts(workload.image)}
    (pinned,) = ada.blobs._pins.values()
    assert pinned == parts | {digest_of(b"1")}


@pytest.mark.parametrize("state", [provider.lease.Waiting, provider.lease.Serving])
async def test_what_a_lease_is_made_of_is_pinned(bea: NodeFolder, state: type) -> None:
    _, _, bea_node = halted(state)
    (found,) = bea_node.core.provider.leases.values()
    workload = await bea.workload(("a", b"1"))
    state_here = replace(found, workload=workload)
    lease_id = found.hold.lease_id
    snapshot = Snapshot("provider-lease", lease_id, "state", to_snapshot(state_here))
    await bea.journal.commit(Commit((snapshot,)))
    await recall(bea.journal, bea.context, bea.proofs, 0)
    parts = {part.digest for part in await bea.images.parts(workload.image)}
    assert bea.blobs._pins[pins_of(lease_id)] == parts | {digest_of(b"1")}
    assert bea.context.image_cache._pins == {lease_id: {workload.image.hex()}}


async def settling(bea: NodeFolder, digest: Digest) -> LeaseId:
    _, _, bea_node = halted(provider.lease.Settling)
    (found,) = bea_node.core.provider.leases.values()
    state = replace(found, receipt=replace(found.receipt, outputs=digest))
    snapshot = Snapshot("provider-lease", found.hold.lease_id, "state", to_snapshot(state))
    await bea.journal.commit(Commit((snapshot,)))
    return found.hold.lease_id


async def test_outputs_that_were_not_fetched_yet_are_pinned(bea: NodeFolder) -> None:
    log = await bea.blobs.put_bytes(b"log", "log")
    listing = await bea.blobs.put_bytes(encode(Outputs((), log)), "output")
    lease_id = await settling(bea, listing.digest)
    await recall(bea.journal, bea.context, bea.proofs, 0)
    assert bea.blobs._pins[pins_of(lease_id)] == {listing.digest, log.digest}


async def test_outputs_that_are_gone_do_not_keep_the_node_from_starting(
    bea: NodeFolder, caplog: pytest.LogCaptureFixture
) -> None:
    await settling(bea, ref_of(b"gone").digest)
    await recall(bea.journal, bea.context, bea.proofs, 0)
    assert "outputs or a checkpoint that are still needed are gone" in caplog.text


async def checkpoint(node: NodeFolder) -> BlobRef:
    file = FileRef("state", await node.blobs.put_bytes(b"state", "output"))
    return await node.blobs.put_bytes(encode(Outputs((file,), NO_LOG)), "output")


async def test_what_an_open_job_continues_from_is_pinned(ada: NodeFolder) -> None:
    listing = await checkpoint(ada)
    job = Job(JOB, spec_of(await ada.workload()), 1, resume=ResumePoint(3, listing, 5))
    await ada.journal.commit(commit_of([Save("job", JOB, job)], ADA.peer_id, 1))
    past = await recall(ada.journal, ada.context, ada.proofs, 0)
    assert past.saved.jobs == (job,)
    kept = {listing.digest, digest_of(b"state"), NO_LOG.digest}
    assert ada.blobs._pins[resume_pins_of(JOB)] == kept


async def test_checkpoints_of_a_running_job_are_pinned(bea: NodeFolder) -> None:
    """What it continues from, for a start; and what its requester may be fetching."""
    _, _, bea_node = halted(provider.lease.Serving)
    (found,) = bea_node.core.provider.leases.values()
    listing = await checkpoint(bea)
    lease_id = found.hold.lease_id
    workload = await bea.workload(checkpoint="state", resume=(listing,))
    said = BEA.sign(Checkpoint(lease_id, 1, listing, 5)).envelope
    taken = replace(found.checkpoints, sequence=1, unacknowledged=said)
    state = replace(found, workload=workload, checkpoints=taken)
    snapshot = Snapshot("provider-lease", lease_id, "state", to_snapshot(state))
    await bea.journal.commit(Commit((snapshot,)))
    await recall(bea.journal, bea.context, bea.proofs, 0)
    kept = {listing.digest, digest_of(b"state"), NO_LOG.digest}
    assert bea.blobs._pins[checkpoint_pins_of(lease_id)] == kept
    assert kept <= bea.blobs._pins[pins_of(lease_id)]


# --- run folders --------------------------------------------------------------------------


async def test_run_folders_of_leases_that_are_over_go(bea: NodeFolder) -> None:
    _, _, bea_node = halted(provider.lease.Serving)
    await write(bea_node, bea.journal)
    (lease_id,) = bea_node.core.provider.leases
    mine, others = bea.context.run_folder(lease_id), bea.run_folder()
    mine.mkdir()
    others.mkdir()
    await recall(bea.journal, bea.context, bea.proofs, 0)
    assert bea.sandbox.removed == [others]
    assert mine.exists()
    # The sandbox knows containers by their names: with others it would kill what we go on with.
    assert bea.sandbox.reaped == [frozenset({name_of(lease_id)})]


async def test_a_folder_that_cannot_be_removed_does_not_keep_the_node_from_starting(
    bea: NodeFolder, caplog: pytest.LogCaptureFixture
) -> None:
    bea.run_folder().mkdir()
    bea.sandbox.refuses = SandboxUnavailable("it is stuck")
    await recall(bea.journal, bea.context, bea.proofs, 0)
    assert "it is stuck" in caplog.text


async def test_without_a_sandbox_folders_stay(bea: NodeFolder) -> None:
    bea.run_folder().mkdir()
    await recall(bea.journal, replace(bea.context, sandbox=None), bea.proofs, 0)
    assert bea.run_folder().exists()


# --- the rest -----------------------------------------------------------------------------


async def test_messages_that_are_owed_and_those_that_are_late(bea: NodeFolder) -> None:
    messages = [NewMessage(ADA.peer_id, b"late", 10), NewMessage(ADA.peer_id, b"owed", 1_000)]
    await bea.journal.commit(Commit(outbox=tuple(messages)))
    past = await recall(bea.journal, bea.context, bea.proofs, 100)
    assert [row.envelope for row in past.outbox] == [b"owed"]


async def test_sequence_numbers_go_on_even_if_the_clock_went_back(bea: NodeFolder) -> None:
    await bea.journal.set_fact(SEQUENCE_FACT, (2**50).to_bytes(8))
    past = await recall(bea.journal, bea.context, bea.proofs, 0)
    core = Core(BEA, Policy())
    core.recover(past.saved, provider_policy(), 5)
    assert core.presence.record is not None
    assert core.presence.record.sequence > 2**50


async def test_who_settled_with_us_is_known_again(bea: NodeFolder) -> None:
    paid = Settle(LEASE, BEA.peer_id, ADA.peer_id, 1, 1, b"proposal", b"countersign")
    await bea.journal.commit(commit_of([paid], BEA.peer_id, 1))
    past = await recall(bea.journal, bea.context, bea.proofs, 0)
    core = Core(BEA, Policy())
    core.recover(past.saved, provider_policy(), 5)
    assert core.standings.of(ADA.peer_id).settled


async def test_the_first_start_of_all(bea: NodeFolder) -> None:
    past = await recall(bea.journal, bea.context, bea.proofs, 0)
    assert past == Past(Saved(), (), {}, {})


async def test_snapshots_are_read_as_they_were_written(bea: NodeFolder) -> None:
    _, _, bea_node = halted(provider.lease.Serving)
    for (table, key), data in bea_node.disk.saved.items():
        assert table == "provider-lease"
        state: Any = from_snapshot(provider.lease.State, data)
        assert state.hold.lease_id == key != LEASE
    await trio.lowlevel.checkpoint()
