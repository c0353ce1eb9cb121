"""Gossip in two fidelities: the same where both are exact, and different where only one can be.

Spec: specs/simulation.md#gossip.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.engine import Engine
from node.simulator.gossip import FlowGossip, GossipTraffic, MessageGossip, TopicGossip
from node.simulator.identities import Numbers
from node.simulator.node import SimulatedNode
from node.simulator.population import Population, populate
from node.simulator.world.latency import Regions, Uniform
from node.simulator.world.supply import Equal, Mix
from protocol.core.core import Core
from protocol.core.jobs import Job, call_for, class_of
from protocol.machines.context import Context, Policy
from protocol.rules.selection import is_drawn
from protocol.rules.topics import topics_of
from protocol.values.ids import CallId, JobId
from protocol.wire.envelope import Signed
from protocol.wire.messages import LOTTERY_ALL
from tests.simulated_network import START_MS, job_spec

HORIZON = 10_000_000
Heard = tuple[int, int, int]
"""Tick, node, and how many calls were made before."""


class Spread:
    """A topic, one call after the other through it, and who hears them when."""

    def __init__(self, kind: type[TopicGossip], nodes: int, seed: int, degree: int = 4) -> None:
        self.engine = Engine()
        names = Numbers(seed)
        links = Uniform(1.0, 20.0).links(nodes, seed)
        self.population = populate(names, links, Equal(), (nodes, 2), seed)
        self.heard: list[Heard] = []
        self.calls: dict[Any, int] = {}
        self.gossip = kind(self.engine, self.population, self._deliver, degree, seed)
        self.gossip.connections = 3
        self.names = names

    @property
    def traffic(self) -> GossipTraffic:
        return self.gossip.traffic

    def publish(self, lottery: int = LOTTERY_ALL, author: int = 0) -> CallId:
        node = SimulatedNode(author, Policy(), Core(self.names.signer(author), Policy()))
        signer = node.core.signer
        context = Context(START_MS, signer, node.policy)
        job_class = class_of(Job(JobId(bytes(16)), job_spec(), START_MS))
        call = replace(call_for(job_class, 1, 1, 0, context), lottery=lottery)
        signed = signer.sign(call)
        self.calls[signed.content_id] = len(self.calls)
        self.gossip.publish(node, topic_of(self.population), signed.envelope)
        return CallId(signed.content_id)

    def run(self) -> list[Heard]:
        self.engine.run(HORIZON)
        return self.heard

    def _deliver(self, number: int, signed: Signed[Any], author: int) -> None:
        assert signed.signer == self.names.peer_of(author)
        self.heard.append((self.engine.now, number, self.calls[signed.content_id]))


def topic_of(population: Population) -> str:
    """Return a topic of all nodes that lend."""
    return topics_of(population.record(population.requesters, START_MS))[0]


LOTTERIES = st.sampled_from([1, LOTTERY_ALL // 2, LOTTERY_ALL])


@settings(max_examples=40)
@given(st.data(), st.integers(3, 40), st.integers(0, 2**32), st.lists(LOTTERIES, max_size=3))
def test_both_fidelities_do_the_same_where_nothing_is_lost(
    data: st.DataObject, nodes: int, seed: int, lotteries: list[int]
) -> None:
    online = data.draw(st.lists(st.booleans(), min_size=nodes, max_size=nodes))
    pauses = data.draw(st.lists(st.integers(0, 300), min_size=3, max_size=3))
    both = [Spread(FlowGossip, nodes, seed), Spread(MessageGossip, nodes, seed)]
    for one in both:
        one.population.online[:] = online
        for number, (lottery, pause) in enumerate(zip(lotteries, pauses, strict=False)):
            one.engine.run(one.engine.now + pause)
            one.publish(lottery, author=number % 2)
    flow, message = (one.run() for one in both)
    assert flow == message
    assert flow == sorted(flow)
    assert both[0].traffic == both[1].traffic
    assert both[0].traffic.published == len(lotteries)


@given(st.integers(3, 30), st.integers(0, 2**32), LOTTERIES)
def test_a_call_reaches_those_that_are_drawn_once_each(nodes: int, seed: int, lottery: int) -> None:
    spread = Spread(FlowGossip, nodes, seed)
    call_id = spread.publish(lottery)
    peers = {number: spread.names.peer_of(number) for number in range(2, nodes)}
    drawn = [number for number, peer in peers.items() if is_drawn(call_id, peer, lottery)]
    assert sorted(number for _, number, _ in spread.run()) == drawn
    # Each forwards its first copy to all neighbours but the one from which it has it.
    copies = spread.traffic.transmissions
    assert copies - spread.traffic.duplicates == nodes - 2


def test_calls_of_one_tick_are_delivered_after_the_rest_of_it() -> None:
    spread = Spread(FlowGossip, 80, 1)
    spread.publish()
    spread.publish()
    order: list[Any] = spread.heard
    for tick in range(400):
        spread.engine.at(tick, lambda tick=tick: order.append((tick, -1, 0)))
    spread.run()
    assert order == sorted(order)
    assert len(order) == 400 + 2 * 78


@pytest.mark.parametrize("kind", [FlowGossip, MessageGossip])
def test_nobody_subscribes_and_nobody_is_there(kind: type[TopicGossip]) -> None:
    empty = Spread(kind, 3, 1)
    empty.population.online[:] = False
    empty.publish()
    assert empty.run() == []
    node = SimulatedNode(0, Policy(), Core(empty.names.signer(0), Policy()))
    before = replace(empty.traffic)
    empty.gossip.publish(node, "no such topic", node.core.signer.sign(_call(empty)).envelope)
    assert empty.traffic == before


def _call(spread: Spread) -> Any:
    node = Core(spread.names.signer(0), Policy())
    job_class = class_of(Job(JobId(bytes(16)), job_spec(), START_MS))
    return call_for(job_class, 1, 1, 0, Context(START_MS, node.signer, node.policy))


def test_a_record_is_not_spread() -> None:
    spread = Spread(FlowGossip, 10, 1)
    node = SimulatedNode(0, Policy(), Core(spread.names.signer(0), Policy()))
    record = spread.population.record(5, START_MS)
    spread.gossip.publish(node, "records", node.core.signer.sign(record).envelope)
    assert spread.run() == []
    assert spread.traffic == GossipTraffic()


def lossy(loss_ppm: int, silent: range = range(0), nodes: int = 200) -> Spread:
    spread = Spread(MessageGossip, nodes, 1, degree=6)
    assert isinstance(spread.gossip, MessageGossip)
    spread.gossip.loss_ppm, spread.gossip.silent = loss_ppm, frozenset(silent)
    spread.publish()
    spread.run()
    return spread


def test_what_is_lost_is_asked_for_later() -> None:
    exact, spread = lossy(0), lossy(400_000)
    assert {number for _, number, _ in spread.heard} == {number for _, number, _ in exact.heard}
    late = [max(tick for tick, _, _ in each.heard) for each in (exact, spread)]
    assert late[0] < late[1] < 100_000
    assert lossy(400_000).heard == spread.heard


def test_if_all_is_lost_nobody_hears_anything() -> None:
    assert lossy(10**6).heard == []


def test_silent_nodes_take_and_do_not_forward() -> None:
    everybody_silent = lossy(0, silent=range(200))
    assert len(everybody_silent.heard) == 3
    some = lossy(0, silent=range(50, 100))
    assert len(some.heard) == 198
    assert some.traffic.transmissions < lossy(0).traffic.transmissions


def test_topics_take_members_and_links_from_the_population() -> None:
    names, links = Numbers(3), Regions().links(400, 3)
    population = populate(names, links, Mix(), (400, 5), 3)
    heard: list[int] = []
    gossip = FlowGossip(Engine(), population, lambda number, *_: heard.append(number), 8, 3)
    node = SimulatedNode(0, Policy(), Core(names.signer(0), Policy()))
    job_class = class_of(Job(JobId(bytes(16)), job_spec(), START_MS))
    call = call_for(job_class, 1, 1, 0, Context(START_MS, node.core.signer, node.policy))
    topics = sorted({
        topic for number in population.providers
        for topic in topics_of(population.record(number, START_MS))
    })  # fmt: skip
    for topic in topics:
        heard.clear()
        gossip.publish(node, topic, node.core.signer.sign(call).envelope)
        gossip._engine.run(gossip._engine.now + HORIZON)
        subscribed = [
            number for number in population.providers
            if topic in topics_of(population.record(number, START_MS))
        ]  # fmt: skip
        assert sorted(heard) == subscribed
        assert np.array_equal(population.subscribers(topic), subscribed)
