"""The nodes of a world: what their arrays say is what their owners allow.

Spec: specs/simulation.md#nodes.
"""

from node.simulator.identities import Numbers
from node.simulator.population import populate
from node.simulator.world.latency import Regions
from node.simulator.world.supply import DISK_MIB, MIX, Mix
from protocol.core.presence import record_of
from protocol.machines.context import Context, Policy
from protocol.rules.pricing import FLOOR_PERCENTS, PERCENT
from protocol.rules.topics import topics_of

NODES, REQUESTERS = 300, 7
NOW_MS = 1_800_000_000_000
POPULATION = populate(Numbers(4), Regions().links(NODES, 4), Mix(), (NODES, REQUESTERS), 4)


def test_those_that_submit_lend_nothing() -> None:
    assert len(POPULATION) == NODES
    assert list(POPULATION.providers) == list(range(REQUESTERS, NODES))
    for number in range(REQUESTERS):
        region = POPULATION.links.regions[POPULATION.links.region[number]]
        assert POPULATION.policy(number) == Policy(region=region)


def test_the_others_lend_what_their_kind_has_at_their_price() -> None:
    floors = []
    for number in POPULATION.providers:
        policy, kind = POPULATION.policy(number), MIX[POPULATION.kind[number]]
        has, percent = policy.capacity, int(POPULATION.price_percent[number])
        assert policy.providing
        assert (has.cpus, has.memory_mib, has.disk_mib) == (kind.cpus, kind.memory_mib, DISK_MIB)
        assert [device.gpu_class for device in has.devices] == [kind.gpu_class] * kind.gpus
        assert len({device.uuid for device in has.devices}) == kind.gpus
        assert policy.prices.cpu == kind.cpu_rate * percent // PERCENT
        assert policy.prices.gpu == kind.gpu_rate * percent // PERCENT
        assert policy.region == POPULATION.links.regions[POPULATION.links.region[number]]
        floors.append(policy.floor_percent)
    assert set(floors) <= set(FLOOR_PERCENTS)
    assert len(set(floors)) > 1


def test_a_record_says_what_the_policy_allows() -> None:
    for number in POPULATION.providers:
        context = Context(NOW_MS, Numbers(4).signer(number), POPULATION.policy(number))
        assert POPULATION.record(number, NOW_MS) == record_of(context, 1)


def test_a_record_is_as_old_as_asked() -> None:
    for now_ms in (NOW_MS, NOW_MS + 5, NOW_MS):
        assert POPULATION.record(REQUESTERS, now_ms).issued_ms == now_ms


def test_nodes_that_are_alike_share_what_they_can() -> None:
    records = {id(POPULATION.record(number, NOW_MS)) for number in POPULATION.providers}
    alike = {
        (POPULATION.kind[number], POPULATION.price_percent[number], POPULATION.links.region[number])
        for number in POPULATION.providers
    }
    assert len(records) == len(alike) < len(POPULATION.providers)


def test_subscribers_are_those_whose_record_says_so() -> None:
    topics_by_node = {
        number: topics_of(POPULATION.record(number, NOW_MS)) for number in POPULATION.providers
    }
    topics = sorted({topic for topics in topics_by_node.values() for topic in topics})
    assert len(topics) > 5
    for topic in topics:
        said = [number for number, topics in topics_by_node.items() if topic in topics]
        assert POPULATION.subscribers(topic).tolist() == said
    assert not POPULATION.subscribers("no such topic").size
