"""The core: every input finds its machine, and a restart goes on where the disk stands.

Spec: specs/core.md.
"""

from dataclasses import replace
from typing import Any

import pytest

from protocol.core.core import CONNECTED_MAX, Core
from protocol.core.jobs import Ending
from protocol.core.presence import record_of
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Publish, Reach, Report, Save, Send
from protocol.machines.events import (
    Announced,
    Awarded,
    Done,
    Failed,
    Fetching,
    Retrying,
    WaitingForProvider,
)
from protocol.machines.inputs import (
    DeadlineReached,
    JobCancelled,
    JobSubmitted,
    PeerConnected,
    PeerDisconnected,
    PolicyChanged,
    StopRequested,
)
from protocol.rules.metering import amount_of
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.values.limits import (
    HEARTBEAT_MS,
    MESSAGE_MS,
    PEERS_WAIT_MS,
    RECORD_REFRESH_MS,
    VOUCHER_MS,
)
from protocol.values.reasons import Failure
from protocol.wire.envelope import Signed, open_envelope
from protocol.wire.messages import (
    RUNNING,
    AwardAccept,
    CapabilityRecord,
    Heartbeat,
    LeaseRelease,
    Ready,
    Released,
)
from tests.driven import POLICY, START_MS
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node
from tests.strategies import SIGNERS

JOB = JobId(bytes(16))


def test_who_has_settled_with_us_is_remembered() -> None:
    world, ann, ben = world_of_two()
    job_id = world.submit(ann)
    assert not ben.core.standings.of(ann.peer_id).settled
    world.run_until(lambda: world.ended(ann, job_id))
    world.run(1_000)
    for node, other in ((ann, ben), (ben, ann)):
        assert node.core.standings.of(other.peer_id).settled
        world.crash(node)
        world.restart(node)
        assert node.core.standings.of(other.peer_id).settled


def test_a_provider_that_runs_a_job_for_a_lease_that_is_over_is_told() -> None:
    """Its requester was away for so long that its release was dropped."""
    world, ann, ben = world_of_two()
    world.job_ms = 3_600_000
    job_id = world.submit(ann)
    world.run_until(lambda: bool(ben.containers))
    world.run(2_000)
    world.drop = lambda sender, receiver, message: isinstance(message, LeaseRelease | Released)
    world.cancel(ann, job_id)
    world.run_until(lambda: world.ended(ann, job_id))
    world.run(MESSAGE_MS)
    assert ben.core.market.servings
    world.drop = lambda sender, receiver, message: False
    world.run(2 * HEARTBEAT_MS)
    assert ben.core.market.left(ben.policy.capacity) == ben.policy.capacity


def test_a_heartbeat_of_a_stranger_is_answered_once_and_leaves_no_trace() -> None:
    core = Core(SIGNERS[0], Policy())
    beat = SIGNERS[1].sign(Heartbeat(LeaseId(bytes(32)), 0, RUNNING, 5))
    (answer,) = core.handle(beat, START_MS)
    assert isinstance(answer, Send)
    assert (answer.peer, answer.until_ms) == (SIGNERS[1].peer_id, 0)
    assert core.handle(SIGNERS[1].sign(Ready(LeaseId(bytes(32)))), START_MS) == []


def world_of_two() -> tuple[SimulatedNetwork, Node, Node]:
    world = SimulatedNetwork()
    ann, ben = world.add("ann"), world.add("ben", provider_policy())
    world.meet()
    return world, ann, ben


def record_from(number: int, **changes: Any) -> Signed[CapabilityRecord]:
    """Return the record of a provider with this number; 0 is ourselves."""
    signer = SIGNERS[number]
    record = record_of(Context(START_MS, signer, POLICY), 1)
    return signer.sign(replace(record, **changes))


def happened(node: Node, kind: type) -> bool:
    return any(isinstance(event, kind) for story in node.disk.events.values() for event in story)


def test_a_submitted_job_is_written_down_before_its_call_is_out() -> None:
    core = Core(SIGNERS[0], Policy())
    core.handle(record_from(1), START_MS)
    core.handle(PeerConnected(SIGNERS[1].peer_id), START_MS)
    effects = core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    assert [type(effect) for effect in effects] == [Save, Report, Publish]
    assert effects[0].key == JOB
    assert isinstance(effects[1].event, Announced)


def test_those_who_can_serve_a_job_are_connected_with() -> None:
    core = Core(SIGNERS[0], Policy())
    for number in (1, 2, 3):
        core.handle(record_from(number), START_MS)
    core.handle(record_from(4, cpus=0), START_MS)
    core.handle(PeerConnected(SIGNERS[1].peer_id), START_MS)
    core.handle(PeerConnected(SIGNERS[2].peer_id), START_MS)
    core.handle(PeerDisconnected(SIGNERS[2].peer_id), START_MS)
    effects = core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    missing = (SIGNERS[2].peer_id, SIGNERS[3].peer_id)
    assert [effect for effect in effects if isinstance(effect, Reach)] == [Reach(missing)]


def test_news_of_peers_that_have_gone_may_be_lost() -> None:
    node = Core(SIGNERS[0], Policy())
    for number in range(CONNECTED_MAX + 10):
        node.handle(PeerConnected(PeerId(str(number))), START_MS)
    assert len(node.connected) == CONNECTED_MAX


@pytest.mark.parametrize("is_connected", [False, True])
def test_that_nobody_bids_is_explained_by_who_is_beyond_reach(is_connected: bool) -> None:
    core = Core(SIGNERS[0], Policy())
    core.handle(record_from(1), START_MS)
    core.handle(record_from(2, cpus=0), START_MS)
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    if is_connected:  # By our own dialling, meanwhile.
        core.handle(PeerConnected(SIGNERS[1].peer_id), START_MS)
    reports: list[Report] = []
    while not reports:
        deadline_ms = core.next_deadline_ms()
        assert deadline_ms is not None
        effects = core.handle(DeadlineReached(), deadline_ms)
        reports = [effect for effect in effects if isinstance(effect, Report)]
    ended = reports[0].event
    assert isinstance(ended, Failed)
    assert ended.reason is Failure.NO_BIDS
    assert ended.why.startswith("no bids: 1 of 2 known nodes can serve this job")
    assert ("1 of these is known but unreachable" in ended.why) is not is_connected


def test_a_job_waits_for_a_provider_and_calls_when_one_is_known() -> None:
    core = Core(SIGNERS[0], POLICY)
    save, report = core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    assert isinstance(save, Save)
    assert report.event == WaitingForProvider(0, PEERS_WAIT_MS)
    assert core.next_deadline_ms() == START_MS + PEERS_WAIT_MS
    for useless in (record_from(0), record_from(1, providing=False)):
        assert core.handle(useless, START_MS) == [], "ourselves, and one that lends nothing"
    effects = core.handle(record_from(2), START_MS + 100)
    assert [type(effect) for effect in effects] == [Report, Reach, Publish]
    (called,) = core.auctions.values()
    assert called.auction.eligible == 1
    assert called.auction.expected == (), "others may appear while the window is open"
    assert core.handle(record_from(2), START_MS + 200) == [], "it calls once"
    assert not core.uncalled


def test_a_job_that_nobody_appears_for_is_called_for_in_the_end() -> None:
    core = Core(SIGNERS[0], POLICY)
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    assert core.handle(DeadlineReached(), START_MS + PEERS_WAIT_MS - 1) == []
    effects = core.handle(DeadlineReached(), START_MS + PEERS_WAIT_MS)
    assert [type(effect) for effect in effects] == [Report, Publish]


def test_a_job_that_waits_is_cancelled_at_once() -> None:
    core = Core(SIGNERS[0], POLICY)
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    report, save = core.handle(JobCancelled(JOB), START_MS)
    assert report.event.reason is Failure.CANCELLED
    assert save.state.ending is Ending.CANCELLED
    assert core.next_deadline_ms() is None
    assert core.handle(record_from(1), START_MS) == []


def test_an_attempt_waits_for_somebody_who_has_not_failed_the_job() -> None:
    world, ann, ben = world_of_two()
    world.prepare_fails.add("ben")
    job_id = world.submit(ann)
    assert world.run_until(lambda: bool(ann.core.uncalled))
    world.add("cleo", provider_policy())
    world.meet()
    assert world.run_until(lambda: world.ended(ann, job_id))
    assert ann.job(job_id).ending is Ending.DONE
    assert ann.job(job_id).avoid == (ben.peer_id,)


def test_one_identifier_is_one_job() -> None:
    core = Core(SIGNERS[0], Policy())
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    with pytest.raises(AssertionError):
        core.handle(JobSubmitted(JOB, job_spec()), START_MS)


def test_it_wakes_for_the_first_deadline_of_all() -> None:
    core = Core(SIGNERS[0], POLICY)
    assert core.next_deadline_ms() is None
    core.handle(PolicyChanged(POLICY), START_MS)
    assert core.next_deadline_ms() == START_MS + RECORD_REFRESH_MS
    core.handle(record_from(1), START_MS)
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    (auction,) = core.auctions.values()
    assert core.next_deadline_ms() == auction.deadline_ms


def test_waking_early_changes_nothing() -> None:
    core = Core(SIGNERS[0], POLICY)
    core.handle(PolicyChanged(POLICY), START_MS)
    core.handle(record_from(1), START_MS)
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    before = dict(core.auctions)
    assert core.handle(DeadlineReached(), START_MS) == []
    assert core.auctions == before


def test_nobody_there_ends_the_job_with_the_reason() -> None:
    world = SimulatedNetwork()
    ann = world.add("ann")
    job_id = world.submit(ann)
    assert world.run_until(lambda: world.ended(ann, job_id))
    failed = ann.disk.events[job_id][-1]
    assert isinstance(failed, Failed)
    assert failed.reason is Failure.NO_PEERS
    assert ann.job(job_id).ending is Ending.FAILED
    assert not ann.core.auctions


def test_a_policy_that_changes_is_announced_and_obeyed() -> None:
    core = Core(SIGNERS[0], Policy())
    effects = core.handle(PolicyChanged(POLICY), START_MS)
    assert any(isinstance(effect, Publish) for effect in effects)
    assert core.policy == POLICY


def test_stopping_withdraws_the_record() -> None:
    core = Core(SIGNERS[0], POLICY)
    core.handle(PolicyChanged(POLICY), START_MS)
    core.handle(StopRequested(), START_MS)
    assert core.presence.record is not None
    assert core.presence.record.ttl_ms == 0


def test_a_node_that_stops_bids_no_more_and_takes_no_award() -> None:
    world, ann, ben = world_of_two()
    world.submit(ann)
    assert world.run_until(lambda: bool(ben.core.market.biddings))
    ben.core.handle(StopRequested(), world.now_ms)
    assert not ben.core.market.biddings
    world.submit(ann)
    world.run(5_000)
    assert not ben.core.market.biddings
    assert not ben.core.market.servings


def test_who_paid_for_what_failed_is_told_how_much() -> None:
    world, ann, ben = world_of_two()
    world.job_ms = 60_000
    job_id = world.submit(ann)
    world.run(20_000)
    world.crash(ben, machine=True)
    assert world.run_until(lambda: happened(ann, Retrying))
    (retrying,) = [event for event in ann.disk.events[job_id] if isinstance(event, Retrying)]
    assert retrying.provider == ben.peer_id
    assert retrying.usage_ms >= VOUCHER_MS, "a voucher was signed before it fell silent"
    assert retrying.amount == amount_of(job_spec().terms.rate_max, retrying.usage_ms)


def test_cancelling_what_is_not_there_does_nothing() -> None:
    assert Core(SIGNERS[0], POLICY).handle(JobCancelled(JOB), START_MS) == []


def test_a_stranger_cannot_speak_for_the_provider() -> None:
    world, ann, _ = world_of_two()
    world.submit(ann)
    assert world.run_until(lambda: happened(ann, Fetching))
    (lease_id,) = ann.core.leases
    before = dict(ann.core.leases)
    stranger = SIGNERS[5]
    for message in (Ready(lease_id), LeaseRelease(lease_id, 1)):
        assert ann.core.handle(stranger.sign(message), world.now_ms) == []
    assert ann.core.leases == before


def test_an_answer_to_another_award_finds_no_auction() -> None:
    world, ann, ben = world_of_two()
    world.submit(ann)
    assert world.run_until(lambda: happened(ann, Awarded))
    accept = ben.signer.sign(AwardAccept(bytes(32), bytes(32)))
    assert ann.core.handle(accept, world.now_ms) == []


def test_two_jobs_at_once_are_two_stories() -> None:
    world, ann, _ = world_of_two()
    jobs = [world.submit(ann), world.submit(ann)]
    assert world.run_until(lambda: all(world.ended(ann, job_id) for job_id in jobs))
    for job_id in jobs:
        assert isinstance(ann.disk.events[job_id][-1], Done)


def test_cancelling_one_job_leaves_the_other() -> None:
    world, ann, _ = world_of_two()
    kept, dropped = world.submit(ann), world.submit(ann)
    assert world.run_until(lambda: len(ann.core.leases) == 2)
    world.cancel(ann, dropped)
    assert world.run_until(lambda: world.ended(ann, kept) and world.ended(ann, dropped))
    assert ann.job(kept).ending is Ending.DONE
    assert ann.job(dropped).ending is Ending.CANCELLED


def test_a_job_whose_auction_was_not_decided_gets_a_new_one() -> None:
    world, ann, _ = world_of_two()
    world.drop = lambda sender, receiver, message: True
    job_id = world.submit(ann)
    world.run(100)
    (old,) = ann.core.auctions
    world.crash(ann)
    world.drop = lambda sender, receiver, message: False
    world.run(100)
    world.restart(ann)
    assert list(ann.core.uncalled) == [job_id]
    assert world.run_until(lambda: bool(ann.core.auctions))
    (new,) = ann.core.auctions
    assert new != old
    assert world.run_until(lambda: world.ended(ann, job_id))
    assert ann.job(job_id).ending is Ending.DONE


def test_who_is_no_stranger() -> None:
    world, ann, ben = world_of_two()
    nodes = (ann, ben), (ben, ann)
    job_id = world.submit(ann)
    assert not any(own.core.knows(other.peer_id) for own, other in nodes)
    assert world.run_until(lambda: bool(ben.launched))
    assert all(own.core.knows(other.peer_id) for own, other in nodes), "by the lease"
    assert world.run_until(lambda: world.ended(ann, job_id) and not ben.core.market.servings)
    assert all(own.core.knows(other.peer_id) for own, other in nodes), "by the receipt"


def test_an_ended_job_is_not_begun_again() -> None:
    world, ann, _ = world_of_two()
    job_id = world.submit(ann)
    assert world.run_until(lambda: world.ended(ann, job_id))
    world.crash(ann)
    world.restart(ann)
    assert not ann.core.jobs
    assert not ann.core.auctions


def test_every_durable_word_names_its_deadline() -> None:
    """A message without a deadline is one that may be lost: heartbeats and greetings."""
    world, ann, ben = world_of_two()
    once: set[str] = set()

    def watch(node: Node, todo: list[object]) -> None:
        for effect in todo:
            if isinstance(effect, Send) and effect.until_ms == 0:
                signed = open_envelope(effect.envelope, node.signer.network_id, node.peer_id)
                once.add(type(signed.message).__name__)

    world.job_ms = 20_000
    job_id = world.submit(ann)
    world.crash_point = watch
    assert world.run_until(lambda: world.ended(ann, job_id))
    assert ben.launched
    assert once == {"Heartbeat"}
