"""What the driver asks for reaches the part of the node that does it.

Spec: specs/core.md#effects.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from node.daemon import effects as ports_module
from node.daemon.recovery import SEQUENCE_FACT
from node.driver.commits import commit_of
from node.storage.journal import OutboxRow
from protocol.core.jobs import Ending, Job
from protocol.machines import effects
from protocol.values.ids import digest_of
from protocol.wire.job import Workload
from tests.node.fixtures import ADA, BEA, JOB, LEASE, Wires, spec_of, until
from tests.node.local_node import Machine, open_town

SPEC = spec_of(Workload(digest_of(b"image"), ("true",)))


@pytest.fixture
async def alone(ada_machine: Machine, wires: Wires) -> AsyncIterator[Machine]:
    async with open_town(wires, ada_machine):
        yield ada_machine


async def test_announcements_are_published_in_order(alone: Machine) -> None:
    for number in range(5):
        alone.node.effects.perform(effects.Publish("topic", b"%d" % number))
    await alone.node.effects.wait_published()
    published = [data for topic, data in alone.network.published if topic == "topic"]
    assert published == [b"0", b"1", b"2", b"3", b"4"]


async def test_too_many_announcements_are_dropped(alone: Machine) -> None:
    for number in range(3 * ports_module.PUBLICATIONS_MAX):
        alone.node.effects.perform(effects.Publish("topic", b"%d" % number))
    await alone.node.effects.wait_published()
    assert len(alone.network.published) <= ports_module.PUBLICATIONS_MAX + 2


async def test_the_record_is_put_until_it_is_taken(
    alone: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports_module, "ADVERTISE_RETRY_S", 0.001)
    await until(lambda: alone.network.records)
    alone.network.records.clear()
    alone.network.puts_fail = 3
    alone.node.effects.perform(effects.Advertise(b"record", 7))
    await until(lambda: alone.network.records == [b"record"] * 4)
    fact = await alone.journal.fact(SEQUENCE_FACT)
    assert int.from_bytes(fact or b"") == 7


async def test_addresses_go_to_the_network(alone: Machine) -> None:
    alone.node.effects.perform(effects.Learn(BEA.peer_id, ("/ip4/192.0.2.1/tcp/1",)))
    assert alone.network.learnt == [(BEA.peer_id, ("/ip4/192.0.2.1/tcp/1",))]


async def test_peers_are_reached_in_the_background(
    alone: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[Any] = []
    monkeypatch.setattr(alone.node.effects._reaching, "want", wanted.append)
    alone.node.effects.perform(effects.Reach((BEA.peer_id,)))
    assert wanted == [(BEA.peer_id,)]


async def test_messages_go_to_the_postman(alone: Machine) -> None:
    alone.node.effects.send(OutboxRow(0, BEA.peer_id, b"x", 0))
    assert BEA.peer_id in alone.node.postman._queues


async def test_the_user_hears_of_jobs(alone: Machine) -> None:
    alone.node.effects.written(effects.Save("job", JOB, Job(JOB, SPEC, 1)))
    alone.node.effects.perform(effects.Progress(JOB, 1, 2))
    assert JOB in alone.node.jobs._open
    assert alone.node.jobs._progress[JOB].fetched == 1
    alone.node.effects.written(effects.Save("job", JOB, Job(JOB, SPEC, 1, ending=Ending.DONE)))
    assert alone.node.jobs._open == {}
    assert alone.node.jobs.counts().done == 1
    assert alone.node.jobs._progress == {}


async def test_a_lease_that_ends_ends_its_transfers(
    alone: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(alone.node.results, "forget", asked.append)
    alone.node.effects.written(effects.Save("requester-lease", LEASE, None))
    assert asked == [LEASE]


async def test_executions_get_the_rest(alone: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(alone.node.executions, "perform", asked.append)
    for effect in (effects.Kill(LEASE), effects.Drop(LEASE), effects.Extend(LEASE, 1)):
        alone.node.effects.perform(effect)
    assert [type(effect).__name__ for effect in asked] == ["Kill", "Drop", "Extend"]


async def test_sums_follow_receipts(alone: Machine) -> None:
    settle = effects.Settle(LEASE, BEA.peer_id, ADA.peer_id, 1_000, 10**9, b"p", b"c")
    await alone.journal.commit(commit_of([settle], ADA.peer_id, 5))
    alone.node.effects.written(settle)
    await until(lambda: alone.node.service.status().spent == "1.000000000")
