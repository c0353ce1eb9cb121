"""Two nodes' folders, their journals, and streams between them.

Spec: specs/core.md#daemon.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from node.driver.clock import Clock
from node.identity import private_dir
from node.storage.journal import Journal, open_journal
from protocol.machines.context import Policy
from tests.node.fixtures import ADA, BEA, NodeFolder, ObedientSandbox, make_node_folder, serve_blobs
from tests.node.local_node import LocalNode, LocalPair, open_local_network
from tests.node.memory_stream import MemoryStreams
from tests.simulated_network import provider_policy


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(tmp_path / "node.db") as opened:
        yield opened


@pytest.fixture
async def streams() -> AsyncIterator[MemoryStreams]:
    async with trio.open_nursery() as nursery:
        yield MemoryStreams(nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def bea(tmp_path: Path, journal: Journal, streams: MemoryStreams) -> NodeFolder:
    """The provider."""
    opener = streams.opener(BEA.peer_id)
    node_folder = await make_node_folder(tmp_path / "bea", journal, opener, ObedientSandbox())
    serve_blobs(streams, BEA.peer_id, node_folder.blobs)
    return node_folder


@pytest.fixture
async def ada(tmp_path: Path, streams: MemoryStreams) -> AsyncIterator[NodeFolder]:
    """The requester, on a disk of its own."""
    async with open_journal(tmp_path / "ada.db") as own:
        node_folder = await make_node_folder(
            tmp_path / "ada", own, streams.opener(ADA.peer_id), None
        )
        serve_blobs(streams, ADA.peer_id, node_folder.blobs)
        yield node_folder


@pytest.fixture
async def ada_node(tmp_path: Path) -> AsyncIterator[LocalNode]:
    """The requester's node, not yet running."""
    folder = private_dir(tmp_path / "ada node")
    async with open_journal(folder / "node.db") as own:
        yield LocalNode(ADA, folder, own, Policy())


@pytest.fixture
async def pair(
    tmp_path: Path, streams: MemoryStreams, ada_node: LocalNode
) -> AsyncIterator[LocalPair]:
    folder = private_dir(tmp_path / "bea node")
    async with open_journal(folder / "node.db") as own:
        bea = LocalNode(BEA, folder, own, provider_policy(), ObedientSandbox())
        async with open_local_network(streams, ada_node, bea) as network:
            yield LocalPair(network, ada_node, bea)
