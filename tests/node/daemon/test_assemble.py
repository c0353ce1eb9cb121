"""A node is put together in its order, and what an earlier life left is there again.

Spec: specs/core.md#daemon.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from node.config import Config
from node.daemon.assemble import Ports, Sandbox, assemble
from node.data.log_protocol import PROTOCOL as LOG_PROTOCOL
from node.data.transfer import PROTOCOL as BLOB_PROTOCOL
from node.driver.clock import Clock
from node.messaging import outbox_sender
from node.network.bulk import PROTOCOL as BULK_PROTOCOL
from node.storage.journal import OutboxRow
from protocol.rules.topics import topics_of
from tests.node.fixtures import ADA, BEA, until
from tests.node.local_node import (
    LocalNetwork,
    LocalNode,
    LocalPair,
    MemoryNetwork,
    open_local_network,
)
from tests.node.memory_stream import MemoryStreams


async def test_nobody_is_answered_before_the_node_runs(
    ada_node: LocalNode, streams: MemoryStreams, nursery: trio.Nursery
) -> None:
    local_network = LocalNetwork(nursery, streams)
    seen: list[MemoryNetwork] = []

    @asynccontextmanager
    async def open_network(events: Any, receiver: Any) -> AsyncIterator[MemoryNetwork]:
        # The network may already ask and tell before there is a node.
        events.peer_connected(BEA.peer_id)
        assert not events.is_known(BEA.peer_id)
        assert receiver.screen(BEA.peer_id, b"no message")
        seen.append(MemoryNetwork(ada_node, events, local_network))
        yield seen[0]

    ports = Ports(
        Config(data_dir=ada_node.folder), ADA, Clock(), ada_node.journal,
        Sandbox(None, "none"), ada_node.policy, open_network, trio.Event(),
    )  # fmt: skip
    async with assemble(ports) as node:
        (network,) = seen
        assert (network.topics, streams.handlers) == ({}, {})
        await nursery.start(node.run)
        served = {protocol for peer, protocol in streams.handlers if peer == ADA.peer_id}
        assert served == {BLOB_PROTOCOL, BULK_PROTOCOL, LOG_PROTOCOL}
        assert network.answer == node.receiver.answer
        record = await until(lambda: node.core.presence.record)
        assert set(network.topics) == set(topics_of(record))
        assert record.addresses == network.announced()


async def test_a_peer_that_comes_back_gets_at_once_what_waits_for_it(
    pair: LocalPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = SimpleNamespace(uniform=lambda least, most: 1_000_000)
    monkeypatch.setattr(outbox_sender, "random", days)  # So long are the pauses.
    await pair.bea.crash()
    sender = pair.ada.node.outbox_sender
    record = pair.ada.node.core.presence.envelope
    until_ms = pair.ada.node.ports.clock.now_ms() + 600_000
    sender.send(OutboxRow(0, BEA.peer_id, record, until_ms))
    await until(lambda: record in pair.ada.network.undelivered)
    await pair.network.start(pair.bea)
    with trio.fail_after(15):
        await sender.wait_empty()


async def test_named_images_are_kept_over_a_restart(
    ada_node: LocalNode, streams: MemoryStreams
) -> None:
    async with open_local_network(streams, ada_node) as network:
        image = await ada_node.node_folder.image()
        await ada_node.node_folder.images.tag("tiny", image)
        await ada_node.crash()
        await network.start(ada_node)
        assert await ada_node.node.images.resolve("tiny") == image.hex()
        assert any(image in pins for pins in ada_node.node_folder.blobs._pins.values())
