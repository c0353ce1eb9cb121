"""Gossip of a stack reaches whom it reaches in the tier message, at the same ticks.

Spec: specs/simulation.md#stack.
"""

from dataclasses import replace

import pytest
import trio

from node.simulator.engine import Engine
from node.simulator.gossip import MessageGossip
from node.simulator.identities import Numbers
from node.simulator.node import SimulatedNode
from node.simulator.population import populate
from node.simulator.stack.clock import VirtualClock
from node.simulator.stack.gossip import StackGossip
from node.simulator.stack.trio_engine import TrioEngine
from node.simulator.world.latency import Uniform
from node.simulator.world.supply import Equal
from protocol.core.core import Core
from protocol.core.jobs import Job, call_for, class_of
from protocol.machines.context import Context, Policy
from protocol.rules.topics import RECORDS, topics_of
from protocol.values.ids import JobId
from protocol.wire.messages import LOTTERY_ALL
from tests.simulated_network import START_MS, job_spec

NODES, REQUESTERS, SEED, DEGREE = 40, 3, 7, 4
AUTHOR = 1


class Spread:
    """A kind of gossip, and who heard what when."""

    def __init__(self, kind, engine):
        links = Uniform(1.0, 20.0).links(NODES, SEED)
        sizes = NODES, REQUESTERS
        self.population = populate(Numbers(SEED), links, Equal(), sizes, SEED)
        self.heard = []
        self.engine = engine
        self.gossip = kind(engine, self.population, self.deliver, DEGREE, SEED)
        self.topic = topics_of(self.population.record(REQUESTERS, START_MS))[1]

    def deliver(self, number, told, author):
        assert author == AUTHOR
        self.heard.append((self.engine.now, number))
        self.told = told


def in_message():
    spread = Spread(MessageGossip, Engine())
    signer = spread.population.identities.signer(AUTHOR)
    node = SimulatedNode(AUTHOR, Policy(), Core(signer, Policy()))
    job_class = class_of(Job(JobId(bytes(16)), job_spec(), START_MS))
    call = call_for(job_class, 1, 1, 0, Context(START_MS, signer, Policy()))
    envelope = signer.sign(replace(call, lottery=LOTTERY_ALL)).envelope
    spread.gossip.publish(node, spread.topic, envelope)
    spread.engine.run(1_000_000)
    return spread


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def spread(clock, nursery):
    found = Spread(StackGossip, TrioEngine(clock))
    nursery.start_soon(found.engine.pump)
    return found


async def test_all_members_hear_it_in_the_ticks_of_the_tier_message(clock, spread):
    await trio.sleep(3)
    spread.gossip.publish(AUTHOR, spread.topic, b"data")
    await trio.sleep(100)
    message = in_message()
    assert spread.heard == [(tick + 30_000, number) for tick, number in message.heard]
    assert len(spread.heard) == NODES - REQUESTERS
    assert spread.gossip.traffic == message.gossip.traffic
    assert spread.told == (spread.topic, b"data")


async def test_records_are_heard_by_all_nodes(clock, spread):
    spread.gossip.publish(AUTHOR, RECORDS, b"data")
    await trio.sleep(100)
    assert sorted(number for _, number in spread.heard) == list(range(NODES))


async def test_a_topic_without_members_costs_nothing(clock, spread):
    spread.gossip.publish(AUTHOR, "call/gpu-none/any", b"data")
    await trio.sleep(100)
    assert not spread.heard
    assert not spread.gossip.traffic.published
