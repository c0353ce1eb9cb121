"""Real containers and the proxy of their node: the only way out.

Spec: specs/egress.md.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from node.config import ProviderSettings
from node.egress.egress import Egress, names_of
from node.egress.log import EgressLog
from node.sandbox import runfolder
from node.sandbox.driver import log_path
from node.sandbox.selftest import python_command
from protocol.machines.effects import Launch
from protocol.rules.capacity import Reservation
from protocol.values.errors import SandboxUnavailable
from protocol.values.ids import LeaseId, PeerId
from protocol.wire.job import Workload
from tests.node.sandbox.conftest import Room, launch_of, workload

NAME = socket.gethostname().lower()
"""A name of this machine that programs do not exempt from proxies, as they do localhost."""
FETCH = """
import os, sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())
"""


def _has_address() -> bool:
    try:
        return bool(socket.gethostbyname(NAME))
    except OSError:
        return False


@contextmanager
def web() -> Iterator[int]:
    """Serve one page on the loopback of the machine; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError), listener.accept()[0] as client:
                client.recv(4096)
                client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def egress_of(
    folder: Path, *names: str, ports: tuple[int, ...] = (80, 443), networks: tuple[str, ...]
) -> Egress:
    settings: Any = {"egress_names": names, "egress_ports": ports, "egress_networks": networks}
    found = ProviderSettings(egress="listed", **settings)
    return Egress(found, names_of(found), EgressLog(folder, lambda: 1))


async def run(room: Room, egress: Egress, job: Workload, **fields: Any) -> tuple[int, str]:
    folder = await room.start(launch_of(job, **fields))
    launch = Launch(LeaseId(bytes(32)), PeerId("peer"), job, Reservation(job.resources), 0, 0)
    async with egress.serving(launch, room.driver, folder):
        end = await room.driver.wait(folder)
    return end.exit_code, log_path(folder).read_text(errors="replace")


needs_name = pytest.mark.skipif(not _has_address(), reason="this machine's name has no address")


@needs_name
async def test_a_job_reaches_what_it_asked_for_and_nothing_else(room: Room) -> None:
    await reach(room)


@needs_name
async def test_a_job_without_control_groups_reaches_the_same(bare_room: Room) -> None:
    await reach(bare_room)


async def reach(room: Room) -> None:
    with web() as port:
        egress = egress_of(room.driver.runs.parent, NAME, ports=(port,), networks=("127.0.0.0/8",))
        command = (*python_command(FETCH), f"http://{NAME}:{port}/")
        code, log = await run(room, egress, workload(*command, egress=(NAME,)))
        assert (code, log) == (0, "hello\n")
        code, log = await run(room, egress, workload(*command, egress=("other.org",)))
        assert code == 1
        assert f"403: mutirao: {NAME} is not among the names that the job asked for" in log
        reached, refused = sorted(await egress.log.newest("", 9), key=lambda one: one.refused)
        assert (reached.host, reached.port, reached.uses) == (NAME, port, 1)
        assert 40 < reached.received < 100
        assert "is not among the names" in refused.refused
        code, log = await run(room, egress, workload(*command))
        assert code == 1
        assert "403" not in log  # There is no proxy.


async def test_a_node_that_starts_again_takes_the_proxy_over(room: Room) -> None:
    job = workload("/bin/sleep", "60", egress=("any",))
    folder = await room.start(launch_of(job))
    first = runfolder.proxy_listener(folder)
    first.close()
    second = await room.driver.proxy_listener(folder)
    assert second.getsockname() == ("127.0.0.1", 3128)
    second.close()
    await room.driver.kill(folder)
    with pytest.raises(SandboxUnavailable, match="the container has no proxy"):
        await room.driver.proxy_listener(folder)


async def test_the_self_test_connects_a_job(room: Room) -> None:
    assert await room.driver.check_egress() == ""
    assert list(room.driver.runs.iterdir()) == []
