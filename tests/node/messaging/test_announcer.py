"""Announcements go out in order, and the record goes to the DHT until that has it.

Spec: specs/core.md#effects.
"""

from collections.abc import AsyncIterator

import pytest
import trio

from node.messaging import announcer as announcer_module
from node.messaging.announcer import PUBLICATIONS_MAX, SEQUENCE_FACT, Announcer
from node.storage.journal import Journal
from protocol.machines.effects import Advertise, Publish
from tests.node.fixtures import until


class Network:
    """Takes what is said, and loses records as long as a test wants it."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.records: list[bytes] = []
        self.puts_fail = 0

    async def publish(self, topic: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.published.append((topic, data))

    async def put_record(self, data: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        self.records.append(data)
        self.puts_fail -= 1
        return self.puts_fail < 0


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def announcer(network: Network, journal: Journal) -> AsyncIterator[Announcer]:
    async with trio.open_nursery() as nursery:
        made = Announcer(network, journal)
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_announcements_are_published_in_order(announcer: Announcer, network: Network) -> None:
    for number in range(5):
        announcer.publish(Publish("topic", b"%d" % number))
    await announcer.wait_published()
    assert network.published == [("topic", b"%d" % number) for number in range(5)]


async def test_too_many_announcements_are_dropped(announcer: Announcer, network: Network) -> None:
    for number in range(3 * PUBLICATIONS_MAX):
        announcer.publish(Publish("topic", b"%d" % number))
    await announcer.wait_published()
    assert PUBLICATIONS_MAX <= len(network.published) <= PUBLICATIONS_MAX + 1
    announcer.publish(Publish("topic", b"later"))
    await announcer.wait_published()
    assert network.published[-1] == ("topic", b"later")


async def test_the_record_is_put_until_it_is_taken(
    announcer: Announcer, network: Network, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer_module, "ADVERTISE_RETRY_S", 0.001)
    network.puts_fail = 3
    announcer.advertise(Advertise(b"record", 7))
    await until(lambda: network.records == [b"record"] * 4)
    assert int.from_bytes(await journal.fact(SEQUENCE_FACT) or b"") == 7


async def test_the_newest_record_does_not_wait_for_one_that_the_dht_does_not_take(
    announcer: Announcer, network: Network
) -> None:
    network.puts_fail = 1
    announcer.advertise(Advertise(b"old", 7))
    await until(lambda: network.records == [b"old"])
    announcer.advertise(Advertise(b"new", 8))
    await until(lambda: network.records[-1] == b"new")
