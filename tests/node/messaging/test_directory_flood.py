"""A stranger's invented records leave the honest ones in the directory of a whole node.

The node, its honest neighbour and the attacker are connected by real libp2p; the attacker is a
process of its own, at another address.
Spec: specs/discovery.md#directory.
"""

import time
from pathlib import Path

import pytest
import trio

from node.config import load_config
from node.daemon.assemble import Ports, Sandbox, assemble
from node.driver.clock import Clock
from node.network.host import open_network
from node.network.interface import NetworkConfig
from node.storage.journal import open_journal
from protocol.core import directory
from protocol.machines.context import Policy
from protocol.rules.topics import RECORDS
from protocol.values.ids import PeerId
from protocol.values.limits import RECORD_TTL_MS
from protocol.wire.envelope import KeySigner
from protocol.wire.messages import CapabilityRecord
from tests.node.network.fixtures import (
    LOOPBACK,
    PATIENT,
    attacker,
    open_node,
    read_line,
    repeated,
    seed,
    until,
)

pytestmark = pytest.mark.slow

NETWORK = "mutirao"
PLACES = 40
HONEST = 12


def record_of(name: str) -> tuple[PeerId, bytes]:
    """Return an honest node that lends, and its record."""
    signer, now_ms = KeySigner(seed(name), NETWORK), time.time_ns() // 10**6
    record = CapabilityRecord(1, now_ms, RECORD_TTL_MS, (), True, cpus=4)
    return signer.peer_id, signer.sign(record).envelope


async def test_invented_records_leave_the_honest_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "RECORDS_MAX", PLACES)
    honest = dict(record_of(f"before {number}") for number in range(HONEST))
    late = dict(record_of(f"after {number}") for number in range(HONEST // 2))
    config = load_config(environment={}, flags={"data_dir": tmp_path, "network.name": NETWORK})
    own, signer = seed("target"), KeySigner(seed("target"), NETWORK)

    def opener(peers, receiver):
        return open_network(NetworkConfig((LOOPBACK,), (), NETWORK), own, peers, receiver, PATIENT)

    async with open_journal(tmp_path / "node.db") as journal:
        sandbox = Sandbox(None, "this node only submits jobs")
        ports = Ports(config, signer, Clock(), journal, sandbox, Policy(), opener, trio.Event())
        async with assemble(ports) as node, trio.open_nursery() as nursery:
            await nursery.start(node.run)
            address = node.network.addresses()[0]

            def listed() -> set[PeerId]:
                status = node.core.status(ports.clock.now_ms())
                return {listing.peer for listing in status.listings}

            async with open_node("neighbour", address) as neighbour:

                async def announce(records: dict[PeerId, bytes]) -> None:
                    for envelope in records.values():
                        await neighbour.publish(RECORDS, envelope)
                    await until(lambda: records.keys() <= listed())

                # Who has just connected is not heard at once.
                first, envelope = record_of("first")
                await repeated(
                    lambda: neighbour.publish(RECORDS, envelope), lambda: first in listed()
                )
                await announce(honest)
                script = "gossip_attacker.py"
                async with attacker("many_records", address, script=script) as process:
                    assert await read_line(process) == "ready"
                    assert (await read_line(process)).startswith(("done", "over"))
                    await until(lambda: len(node.core.directory) == PLACES)
                    assert honest.keys() <= listed()
                    await announce(late)
                    assert {*honest, *late} <= listed()
            nursery.cancel_scope.cancel()
