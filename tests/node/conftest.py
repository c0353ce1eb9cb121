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
from tests.node.fixtures import ADA, BEA, ObedientSandbox, Place, Wires, make_place, serve_blobs
from tests.node.local_node import Machine, Pair, open_town
from tests.simulated_network import provider_policy


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(tmp_path / "node.db") as opened:
        yield opened


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    async with trio.open_nursery() as nursery:
        yield Wires(nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def bea(tmp_path: Path, journal: Journal, wires: Wires) -> Place:
    """The provider."""
    opener = wires.of(BEA.peer_id)
    place = await make_place(tmp_path / "bea", journal, opener, ObedientSandbox())
    serve_blobs(wires, BEA.peer_id, place.blobs)
    return place


@pytest.fixture
async def ada(tmp_path: Path, wires: Wires) -> AsyncIterator[Place]:
    """The requester, on a disk of its own."""
    async with open_journal(tmp_path / "ada.db") as own:
        place = await make_place(tmp_path / "ada", own, wires.of(ADA.peer_id), None)
        serve_blobs(wires, ADA.peer_id, place.blobs)
        yield place


@pytest.fixture
async def ada_machine(tmp_path: Path) -> AsyncIterator[Machine]:
    """The requester's node, not yet running."""
    folder = private_dir(tmp_path / "ada node")
    async with open_journal(folder / "node.db") as own:
        yield Machine(ADA, folder, own, Policy())


@pytest.fixture
async def pair(tmp_path: Path, wires: Wires, ada_machine: Machine) -> AsyncIterator[Pair]:
    folder = private_dir(tmp_path / "bea node")
    async with open_journal(folder / "node.db") as own:
        bea = Machine(BEA, folder, own, provider_policy(), ObedientSandbox())
        async with open_town(wires, ada_machine, bea) as town:
            yield Pair(town, ada_machine, bea)
