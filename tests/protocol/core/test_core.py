"""The core: every input finds its machine, and a restart goes on where the disk stands.

Spec: specs/core.md.
"""

from dataclasses import replace

from protocol.core.core import CONNECTED_MAX, Core
from protocol.machines.context import Policy
from protocol.machines.effects import Note, Publish, Send
from protocol.machines.inputs import (
    ContainerStarted,
    DeadlineReached,
    DevicesWithheld,
    JobSubmitted,
    PeerConnected,
    PolicyChanged,
    ReclaimRequested,
    StopRequested,
)
from protocol.rules.capacity import Device
from protocol.values.ids import ContentId, JobId, LeaseId, PeerId
from protocol.values.limits import (
    HEARTBEAT_MS,
    MESSAGE_MS,
    RECORD_REFRESH_MS,
)
from protocol.wire.envelope import open_envelope
from protocol.wire.job import Resources
from protocol.wire.messages import (
    NO_ID,
    RUNNING,
    Bid,
    BidReveal,
    Heartbeat,
    LeaseRelease,
    Ready,
    Released,
    Start,
    Voucher,
)
from tests.driven import POLICY, START_MS
from tests.protocol.core.test_provider import ANN, EVE, award_of, call
from tests.protocol.core.test_requester import network_of_two, record_from
from tests.simulated_network import job_spec
from tests.simulated_node import Node
from tests.strategies import SIGNERS

JOB = JobId(bytes(16))


def test_who_has_settled_with_us_is_remembered() -> None:
    network, ann, ben = network_of_two()
    job_id = network.submit(ann)
    assert not ben.core.standings.of(ann.peer_id).settled
    network.run_until(lambda: network.ended(ann, job_id))
    network.run(1_000)
    for node, other in ((ann, ben), (ben, ann)):
        assert node.core.standings.of(other.peer_id).settled
        network.crash(node)
        network.restart(node)
        assert node.core.standings.of(other.peer_id).settled


def test_a_provider_that_runs_a_job_for_a_lease_that_is_over_is_told() -> None:
    """Its requester was away for so long that its release was dropped."""
    network, ann, ben = network_of_two()
    network.job_ms = 3_600_000
    job_id = network.submit(ann)
    network.run_until(lambda: bool(ben.containers))
    network.run(2_000)
    network.drop = lambda sender, receiver, message: isinstance(message, LeaseRelease | Released)
    network.cancel(ann, job_id)
    network.run_until(lambda: network.ended(ann, job_id))
    network.run(MESSAGE_MS)
    assert ben.core.provider.leases
    network.drop = lambda sender, receiver, message: False
    network.run(2 * HEARTBEAT_MS)
    assert ben.core.provider.left(ben.policy.capacity) == ben.policy.capacity


def test_a_heartbeat_of_a_stranger_is_answered_once_and_leaves_no_trace() -> None:
    core = Core(SIGNERS[0], Policy())
    beat = SIGNERS[1].sign(Heartbeat(LeaseId(bytes(32)), 0, RUNNING, 5))
    (answer,) = core.handle(beat, START_MS)
    assert isinstance(answer, Send)
    assert (answer.peer, answer.until_ms) == (SIGNERS[1].peer_id, 0)
    assert core.handle(SIGNERS[1].sign(Ready(LeaseId(bytes(32)))), START_MS) == []


def test_news_of_peers_that_have_gone_may_be_lost() -> None:
    node = Core(SIGNERS[0], Policy())
    for number in range(CONNECTED_MAX + 10):
        node.handle(PeerConnected(PeerId(str(number))), START_MS)
    assert len(node.connected) == CONNECTED_MAX


def test_what_no_honest_peer_sends_changes_nothing_and_is_counted() -> None:
    core = Core(SIGNERS[0], POLICY)
    called = call()
    core.handle(called, START_MS)
    core.handle(award_of(called), START_MS)
    ((lease_id, held),) = core.provider.leases.items()
    voucher = Voucher(lease_id, ContentId(bytes(32)), 1, 5, 5)
    for said in (Start(lease_id, 0), voucher, voucher):
        assert core.handle(ANN.sign(said), START_MS) == []
        assert core.handle(EVE.sign(said), START_MS) == [], "nor from another is it counted"
    assert core.handle(ContainerStarted(lease_id, 5), START_MS) == []
    assert core.provider.leases == {lease_id: held}
    assert core.status(START_MS).illegal == {
        "provider-lease Held Start": 1, "provider-lease Held Voucher": 2,
        "provider-lease Held ContainerStarted": 1,
    }  # fmt: skip


def test_a_bid_that_is_opened_before_the_set_is_closed_is_counted() -> None:
    core = Core(SIGNERS[0], POLICY)
    core.handle(record_from(1), START_MS)
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    ((call_id, calling),) = core.requester.scheduler.auctions.states.items()
    bid = Bid(1, "embedded", 1, 10_000, 35_000, 0)
    assert core.handle(ANN.sign(BidReveal(call_id, NO_ID, bid, bytes(32))), START_MS) == []
    assert core.requester.scheduler.auctions.states == {call_id: calling}
    assert core.status(START_MS).illegal == {"auction Calling BidReveal": 1}


def test_an_answer_to_a_release_that_was_not_sent_is_counted() -> None:
    network, ann, ben = network_of_two()
    network.submit(ann)
    network.run_until(lambda: bool(ann.core.requester.leases.states))
    ((lease_id, state),) = ann.core.requester.leases.states.items()
    assert ann.core.handle(ben.signer.sign(Released(lease_id, 0, b"")), network.now_ms) == []
    assert ann.core.requester.leases.states == {lease_id: state}
    assert ann.core.status(network.now_ms).illegal == {"requester-lease Deploying Released": 1}


def test_it_wakes_for_the_first_deadline_of_all() -> None:
    core = Core(SIGNERS[0], POLICY)
    assert core.next_deadline_ms() is None
    core.handle(PolicyChanged(POLICY), START_MS)
    assert core.next_deadline_ms() == START_MS + RECORD_REFRESH_MS
    core.handle(record_from(1), START_MS)
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    (auction,) = core.requester.scheduler.auctions.states.values()
    assert core.next_deadline_ms() == auction.deadline_ms


def test_waking_early_changes_nothing() -> None:
    core = Core(SIGNERS[0], POLICY)
    core.handle(PolicyChanged(POLICY), START_MS)
    core.handle(record_from(1), START_MS)
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    before = dict(core.requester.scheduler.auctions.states)
    assert core.handle(DeadlineReached(), START_MS) == []
    assert core.requester.scheduler.auctions.states == before


def test_a_policy_that_changes_is_announced_and_obeyed() -> None:
    core = Core(SIGNERS[0], Policy())
    effects = core.handle(PolicyChanged(POLICY), START_MS)
    assert any(isinstance(effect, Publish) for effect in effects)
    assert core.policy == POLICY


def test_gpus_in_trouble_are_not_lent_whatever_the_policy_says() -> None:
    gpus = tuple(Device(uuid, "h200", 141_000) for uuid in ("GPU-1", "GPU-2"))
    lending = replace(POLICY, capacity=replace(POLICY.capacity, devices=gpus))
    core = Core(SIGNERS[0], Policy())
    core.handle(PolicyChanged(lending), START_MS)
    assert [group.count for group in core.presence.record.gpus] == [2]
    told = core.handle(DevicesWithheld(frozenset({"GPU-1"})), START_MS)
    assert any(isinstance(effect, Publish) for effect in told)
    assert [group.count for group in core.presence.record.gpus] == [1]
    core.handle(PolicyChanged(lending), START_MS)
    assert core.status(START_MS).free.devices == gpus[1:]
    core.handle(DevicesWithheld(frozenset()), START_MS)
    assert core.policy == lending
    core.handle(StopRequested(), START_MS)
    assert core.handle(DevicesWithheld(frozenset({"GPU-1"})), START_MS) == []
    assert not core.policy.providing


def test_an_owner_that_takes_no_new_jobs_takes_its_bids_back_and_keeps_its_leases() -> None:
    core = Core(SIGNERS[0], POLICY)
    won, open_bid = call(), call(EVE, nonce=bytes(15) + b"1", resources=Resources(1))
    for event in (won, award_of(won), open_bid):
        core.handle(event, START_MS)
    assert len(core.provider.biddings) == 2
    effects = core.handle(PolicyChanged(replace(POLICY, providing=False, closed="x")), START_MS)
    assert not core.provider.biddings
    assert core.status(START_MS).jobs_provided == 1
    notes = [effect.answered for effect in effects if isinstance(effect, Note)]
    assert ["took its bid back" in note.why for note in notes] == [True]
    core.handle(ReclaimRequested(0), START_MS)
    assert core.status(START_MS).jobs_provided == 0
    assert core.presence.record is not None
    assert core.presence.record.ttl_ms > 0, "the node stays"


def test_stopping_withdraws_the_record() -> None:
    core = Core(SIGNERS[0], POLICY)
    core.handle(PolicyChanged(POLICY), START_MS)
    core.handle(StopRequested(), START_MS)
    assert core.presence.record is not None
    assert core.presence.record.ttl_ms == 0


def test_a_node_that_stops_bids_no_more_and_takes_no_award() -> None:
    network, ann, ben = network_of_two()
    network.submit(ann)
    assert network.run_until(lambda: bool(ben.core.provider.biddings))
    ben.core.handle(StopRequested(), network.now_ms)
    assert not ben.core.provider.biddings
    network.submit(ann)
    network.run(5_000)
    assert not ben.core.provider.biddings
    assert not ben.core.provider.leases


def test_who_is_no_stranger() -> None:
    network, ann, ben = network_of_two()
    nodes = (ann, ben), (ben, ann)
    job_id = network.submit(ann)
    assert not any(own.core.knows(other.peer_id) for own, other in nodes)
    assert network.run_until(lambda: bool(ben.launched))
    assert all(own.core.knows(other.peer_id) for own, other in nodes), "by the lease"
    assert network.run_until(lambda: network.ended(ann, job_id) and not ben.core.provider.leases)
    assert all(own.core.knows(other.peer_id) for own, other in nodes), "by the receipt"


def test_every_durable_word_names_its_deadline() -> None:
    """A message without a deadline is one that may be lost: heartbeats and greetings."""
    network, ann, ben = network_of_two()
    once: set[str] = set()

    def watch(node: Node, todo: list[object]) -> None:
        for effect in todo:
            if isinstance(effect, Send) and effect.until_ms == 0:
                signed = open_envelope(effect.envelope, node.signer.network_id, node.peer_id)
                once.add(type(signed.message).__name__)

    network.job_ms = 20_000
    job_id = network.submit(ann)
    network.crash_point = watch
    assert network.run_until(lambda: network.ended(ann, job_id))
    assert ben.launched
    assert once == {"Heartbeat"}
