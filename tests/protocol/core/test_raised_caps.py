"""What a job pays at most that names no price: the lowest list price, and more if nobody bids.

Spec: specs/pricing.md#cap.
"""

from protocol.machines.events import Announced, Running
from protocol.wire.messages import BidCommit
from tests.protocol.core.test_scheduler import HOUR_MS, events, network_of
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node


def caps(node: Node) -> list[int]:
    return [event.rate_max for event in events(node, Announced)]


def test_a_job_without_a_price_raises_its_cap_by_steps_and_begins_again_after_a_pause() -> None:
    network = SimulatedNetwork()
    ann = network.add("ann")
    for name, cpu in (("ben", 1_000), ("cleo", 2_000), ("dan", 3_000)):
        network.add(name, provider_policy(cpu))
    network.meet()
    network.drop = lambda sender, receiver, message: isinstance(message, BidCommit)
    network.submit(ann, job_spec(0))
    called: list[int] = []

    def note_calls() -> bool:
        open_calls = ann.core.requester.scheduler.auctions.states.values()
        rates = [state.auction.call.rate_max for state in open_calls]
        called.extend(rate for rate in rates if called[-1:] != [rate])
        return len(called) == 4

    assert network.run_until(note_calls)
    assert called == [1_000, 2_000, 3_000, 1_000]
    assert caps(ann) == [1_000, 2_000, 3_000], "that it begins again is no news"
    first, second, *_ = events(ann, Announced)
    assert first.why.startswith("the lowest list price of the 3 nodes")
    assert "nobody bid for less" in second.why


def test_nodes_that_are_busy_do_not_raise_a_cap() -> None:
    network, ann = network_of(4, 4, job_ms=HOUR_MS)
    for _ in range(2):
        network.submit(ann, job_spec(20_000, cpus=4))
    assert network.run_until(lambda: len(events(ann, Running)) == 2)
    network.submit(ann, job_spec(0))
    network.run(20_000)
    assert set(caps(ann)) == {20_000, 1_000}, "the other lists 1,001"


def test_a_free_node_that_lists_more_serves_while_the_cheap_one_is_busy() -> None:
    network, ann = network_of(4, 4, job_ms=HOUR_MS)
    network.submit(ann, job_spec(4_000, cpus=4))
    assert network.run_until(lambda: len(events(ann, Running)) == 1)
    network.submit(ann, job_spec(0))
    assert network.run_until(lambda: len(events(ann, Running)) == 2)
    assert caps(ann)[-2:] == [1_000, 1_001]
