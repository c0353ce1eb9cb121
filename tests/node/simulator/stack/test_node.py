"""Whole nodes on a stack: they do a job, and one that goes continues from its folder.

Spec: specs/simulation.md#stack.
"""

import pytest
import trio

from node.simulator.identities import Keys
from node.simulator.stack.clock import VirtualClock
from node.simulator.stack.network import SharedNetwork
from node.simulator.stack.node import Machine, StackNode
from node.simulator.stack.trio_engine import TrioEngine
from node.simulator.world.demand import JobModel, spec_of
from protocol.machines.context import Policy
from protocol.machines.effects import Report, Settle
from protocol.machines.events import Done, Retrying, Running
from protocol.values.ids import JobId
from tests.node.simulator.stack.test_network import AlikePaths
from tests.simulated_network import provider_policy

JOB = JobId(b"J" * 16)
WORK = spec_of(JobModel(work=30_000, image_mib=1), 0.5)
POLICIES = (Policy(), provider_policy())


class EverybodyHears:
    """Gossip that brings everything to everybody at once."""

    def __init__(self, shared):
        self.shared = shared

    def publish(self, author, topic, data):
        peer = self.shared.identities.peer_of(author)
        for network in tuple(self.shared.networks.values()):
            if network.number != author:
                self.shared.engine.at(
                    self.shared.engine.clock.ticks, network.hear, topic, peer, data
                )


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def witnessed(clock, nursery, tmp_path):
    """A requester and a provider that run, and what they did."""
    shared = SharedNetwork(TrioEngine(clock), AlikePaths(), Keys(1))
    shared.gossip = EverybodyHears(shared)
    nursery.start_soon(shared.engine.pump)
    told, nodes = [], []
    for number, policy in enumerate(POLICIES):
        folder = tmp_path / str(number)
        folder.mkdir(mode=0o700)
        machine = Machine(folder, shared.identities.signer(number), policy, clock, shared)
        nodes.append(StackNode(number, machine, lambda node, effect: told.append((node, effect))))
    with clock.held():
        for node in nodes:
            await nursery.start(node.run)
    await trio.sleep(2)
    return (*nodes, told)


def events_of(told, kind):
    return [
        each.event for _, each in told if isinstance(each, Report) and isinstance(each.event, kind)
    ]


async def test_a_job_is_done_in_virtual_time_and_settled(clock, witnessed):
    requester, provider, told = witnessed
    assert (provider.number, provider.policy) == (1, POLICIES[1])
    await requester.submit({JOB: WORK})
    await trio.sleep(120)
    (done,) = events_of(told, Done)
    assert done.exit_code == 0
    assert done.usage_ms == int(WORK.workload.command[1]) == 20_794
    settled = [effect for node, effect in told if isinstance(effect, Settle) and node is provider]
    assert settled[-1].amount == done.amount > 0
    (output,) = await requester.node.jobs.outputs(JOB.hex())
    assert output.path == "usage-ms"


async def test_a_node_that_goes_loses_its_container_and_comes_back_with_its_journal(
    clock, nursery, witnessed
):
    requester, provider, told = witnessed
    await requester.submit({JOB: WORK})
    await trio.sleep(15)
    assert len(events_of(told, Running)) == 1
    went = clock.ticks
    await provider.go()
    assert clock.ticks == went
    assert provider.peer_id not in requester.node.network._shared.networks
    await trio.sleep(1)
    with clock.held():
        await nursery.start(provider.run)
    assert provider.peer_id in requester.node.network._shared.networks
    await trio.sleep(30)
    (retrying,) = events_of(told, Retrying)
    assert "went with its machine" in retrying.why
