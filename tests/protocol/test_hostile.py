"""Peers that do not keep their word, among honest ones whose jobs must succeed all the same.

Spec: specs/standing.md.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from protocol.core.jobs import Ending
from protocol.core.presence import record_of
from protocol.machines.context import Context
from protocol.values.ids import PeerId
from protocol.values.limits import (
    ACCEPT_MS,
    BIDS_MAX,
    COMMIT_MS,
    HEARTBEAT_MS,
    RECORD_TTL_MS_MAX,
    SILENT_MS,
    STALL_MS,
    STRIKE_HALF_LIFE_MS,
    UNPAID_MS_MAX,
)
from protocol.wire.envelope import KeySigner, Signed
from protocol.wire.job import QUICK, VICKREY
from protocol.wire.messages import (
    Award,
    AwardAccept,
    AwardDecline,
    BidReveal,
    Cancel,
    CapabilityRecord,
    Completed,
    Heartbeat,
    LeaseActive,
    Outcome,
    Started,
)
from tests.simulated_network import NETWORK, SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node

Deaf = Callable[[str, str, object], bool]


def network_of(*providers: str, cpus: int = 4, **policy: int) -> tuple[SimulatedNetwork, Node]:
    """Return a network of providers, the cheapest first, and one honest requester."""
    network = SimulatedNetwork(1)
    for number, name in enumerate(providers):
        network.add(name, provider_policy(cpu=1_000 + number, cpus=cpus, **policy))
    return network, network.add("ann")


def never_says(who: str, *messages: type) -> Deaf:
    """Return the rule by which nobody hears such messages of peers whose name begins so."""
    return lambda sender, receiver, message: (
        sender.startswith(who) and isinstance(message, messages)
    )


def done(network: SimulatedNetwork, node: Node, **terms: int) -> bool:
    """Run one job of a node to its end, and say whether it succeeded."""
    job_id = network.submit(node, job_spec(**terms))
    assert network.run_until(lambda: network.ended(node, job_id))
    return node.job(job_id).ending is Ending.DONE


def test_who_asks_for_a_whole_node_and_never_buys_keeps_nobody_from_working() -> None:
    network, ann = network_of("ben", "cleo")
    eve = network.add("eve")
    network.meet()
    network.drop = never_says("eve", Award, Outcome, Cancel)

    def ask() -> None:
        network.submit(eve, job_spec(cpus=4, retries=0))
        network.after(22_000, ask)

    ask()
    outcomes = []
    for _ in range(12):
        network.run(7_000)
        outcomes.append(done(network, ann))
    assert all(outcomes)


@pytest.mark.parametrize("apart_ms", [0, 3, 8, 12, 100, 1_000])
def test_two_jobs_at_nearly_the_same_time_share_two_small_providers(apart_ms: int) -> None:
    network, ann = network_of("ben", "cleo", cpus=1)
    amy = network.add("amy")
    network.meet()
    jobs = [(ann, network.submit(ann))]
    network.run(apart_ms)
    jobs.append((amy, network.submit(amy)))
    assert network.run_until(lambda: all(network.ended(*job) for job in jobs))
    assert {node.job(job_id).ending for node, job_id in jobs} == {Ending.DONE}


def test_who_serves_no_blobs_keeps_a_whole_node_for_a_few_minutes_and_then_not_at_all() -> None:
    network, ann = network_of("ben")
    eve = network.add("eve")
    network.meet()
    network.serves_no_blobs.add("eve")

    def ask() -> None:
        job_id = network.submit(eve, job_spec(cpus=4, retries=0))
        network.after(
            30_000, lambda: ask() if network.ended(eve, job_id) else network.after(9_000, ask)
        )

    ask()
    served = 0
    for _ in range(60):
        network.run(60_000)
        served += done(network, ann)
    kept_ms = UNPAID_MS_MAX + STALL_MS + HEARTBEAT_MS
    assert served >= 60 - 2 * kept_ms // 60_000
    assert any("UNPAID" in line for _, line in network.log)


# Bidders that keep the work from others. The cheapest are called eve: they win whatever is asked.


def sybils(count: int, *honest: str) -> tuple[SimulatedNetwork, Node]:
    network, ann = network_of(*(f"eve{number}" for number in range(count)), *honest)
    network.meet()
    return network, ann


@pytest.mark.parametrize("profile", [QUICK, VICKREY])
@pytest.mark.parametrize("never", [AwardAccept, LeaseActive])
@pytest.mark.parametrize("count", [2, 4, 7])
def test_cheap_bidders_that_never_take_the_job_only_delay_it(
    profile: int, never: type, count: int
) -> None:
    network, ann = sybils(count, "ben")
    network.drop = never_says("eve", never, AwardDecline)
    assert done(network, ann, profile=profile)


def test_who_broke_its_word_is_not_asked_again_while_others_bid() -> None:
    network, ann = sybils(4, "ben")
    network.drop = never_says("eve", AwardAccept)
    assert done(network, ann)
    before_ms = network.now_ms
    assert done(network, ann)
    assert network.now_ms - before_ms < network.job_ms + ACCEPT_MS, "nobody was waited for in vain"
    network.drop = never_says("nobody")
    begun = len(network.log)
    assert done(network, ann, rate_max=99_999)
    network.run(2 * STRIKE_HALF_LIFE_MS)
    assert done(network, ann, rate_max=99_998)
    counted = [line for _, line in network.log[begun:] if "*BidsOpened*" in line]
    assert ["eve" in line for line in counted] == [False, True], "in the end it is forgiven"


def test_who_lost_one_job_does_not_get_the_next_while_others_bid() -> None:
    """The cheapest wins by price alone; else one that dies under each job would kill every job."""
    network, ann = sybils(1, "ben")
    network.drop = never_says("eve", Started, Heartbeat, Completed)
    assert done(network, ann)
    begun = len(network.log)
    assert done(network, ann, retries=0)
    assert not [line for _, line in network.log[begun:] if "*Retrying*" in line]


def test_who_was_slow_once_gets_another_chance_when_the_others_are_busy() -> None:
    network, ann = network_of("eve", "ben", cpus=1)
    amy = network.add("amy")
    network.meet()
    network.job_ms = 60_000
    assert network.submit(amy)
    network.run(1_000)  # It has eve, who keeps her word this time.
    network.drop = never_says("ben", AwardAccept)
    network.after(1_000, lambda: setattr(network, "drop", never_says("nobody")))
    assert done(network, ann)


def test_bidders_that_never_open_their_bids_lose_their_places() -> None:
    network, ann = network_of(*(f"eve{number}" for number in range(70)), "ben")
    network.drop = never_says("eve", BidReveal)
    assert done(network, ann)
    assert done(network, ann, rate_max=99_999)
    *_, last = [line for _, line in network.log if "BidsOpened" in line]
    assert int(last.partition("unopened=")[2]) <= 70 - (BIDS_MAX - 1), "only those left over"


def test_who_served_us_before_keeps_its_place_and_comes_next() -> None:
    """Fresh keys cost nothing: any number of them only delays a job whose requester knows one."""
    network, ann = network_of(*(f"eve{number}" for number in range(80)), "ben")
    ann.core.standings.settle(next(n.peer_id for n in network.nodes.values() if n.name == "ben"))
    network.drop = never_says("eve", AwardAccept)
    assert done(network, ann, retries=0)
    awards = [line for _, line in network.log if "*Awarded*" in line]
    assert len(awards) == 2
    assert "ben" in awards[-1]


# Records of nodes that do not exist.


def window_ms(network: SimulatedNetwork, node: Node) -> int:
    """Run one job, and return how long its call was open for commitments."""
    begun = len(network.log)
    assert done(network, node, rate_max=90_000 + begun), "no equal job has a slot"
    story = network.log[begun:]
    (called_ms,) = [at_ms for at_ms, line in story if "*Announced*" in line]
    return next(at_ms for at_ms, line in story if "CommitSet" in line) - called_ms


def fake_records(count: int, network: SimulatedNetwork) -> list[Signed[CapabilityRecord]]:
    """Return records of the best node there is, under fresh keys, that last as long as they may."""
    context = Context(network.now_ms, KeySigner(bytes(32), NETWORK), provider_policy(cpu=1))
    best = record_of(context, 1)
    record = replace(best, ttl_ms=RECORD_TTL_MS_MAX)
    return [KeySigner(number.to_bytes(32), NETWORK).sign(record) for number in range(count)]


@pytest.mark.parametrize("count", [1, 200])
def test_fake_records_cost_no_job_any_time(count: int) -> None:
    network, ann = network_of("ben", "cleo")
    network.meet()
    assert window_ms(network, ann) >= COMMIT_MS, "nobody has answered yet, so it waits for all"
    quick_ms = window_ms(network, ann)
    assert quick_ms < COMMIT_MS
    for signed in fake_records(count, network):
        ann.core.handle(signed, network.now_ms)
    assert window_ms(network, ann) == quick_ms


def test_who_answered_and_then_falls_silent_costs_one_job_its_time() -> None:
    network, ann = network_of("ben", "eve")
    network.meet()
    assert done(network, ann)
    network.drop = lambda sender, receiver, message: receiver == "eve"
    assert window_ms(network, ann) >= COMMIT_MS
    assert window_ms(network, ann) < COMMIT_MS
    network.drop = lambda sender, receiver, message: False
    assert window_ms(network, ann) < COMMIT_MS
    network.run(SILENT_MS)
    assert done(network, ann)
    assert ann.core.standings.of(eve_of(network)).answers, "it is one of us again"


def test_a_flood_of_records_leaves_the_honest_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.core.directory.RECORDS_MAX", 100)
    network, ann = network_of("ben", "cleo", "dan")
    network.meet()
    for signed in fake_records(300, network):
        ann.core.handle(signed, network.now_ms)
    known = {listing.peer for listing in ann.core.directory.listings(network.now_ms)}
    assert len(known) == 100
    assert known > {node.peer_id for node in network.nodes.values()} - {ann.peer_id}
    assert done(network, ann)


def eve_of(network: SimulatedNetwork) -> PeerId:
    return next(node.peer_id for node in network.nodes.values() if node.name == "eve")
