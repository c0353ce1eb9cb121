"""Floors of the benchmark: the least that a job can cost on this machine, by the same clock.

Each is what somebody would run by hand without a node: bwrap with just the mounts of a container
of ours, `docker run`, an echo over loopback TCP. The node's own driver, used as the daemon uses it,
stands between them and a job: what it adds is the sandbox's, what a job adds to it the network's.

Spec: specs/overview.md#bench.
"""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from node.sandbox.choice import make_driver
from node.sandbox.driver import NAME_PREFIX, ContainerSpec
from node.sandbox.runner import job_disk, records
from protocol.values.ids import Digest
from protocol.wire.job import Resources, Workload

ECHOES: Final = 20
ECHO_BYTES: Final = 64
OURS_ALONE: Final = frozenset({"--seccomp", "--block-fd", "--info-fd"})
"""Options of bwrap that need descriptors of the runner."""


class Floors:
    """What can be measured beside a job of an image; `root` is where the node unpacked it."""

    def __init__(self, sandbox: str, folder: Path, image: str, root: Path) -> None:
        """Make the driver as a daemon does; `folder` is for run folders."""
        self._folder = folder
        self._image = f"mutirao:{image}" if sandbox == "docker" else str(root)
        self._driver = make_driver(sandbox, folder, 1024)
        self._command: list[str] = []
        self._environment: dict[str, str] = {}
        self.of: dict[str, Callable[[], float]] = {
            "own_driver": self.own_driver,
            "loopback_echo": loopback_echo,
        }
        self.own_driver()  # The first finds out what the machine can.
        if sandbox == "docker":
            self.of["docker_run"] = self.docker_run
        else:
            self.of["bare_bwrap"] = self.bare_bwrap

    def own_driver(self) -> float:
        """Run the command as the daemon does, with a spare runner; return milliseconds."""
        return trio.run(self._start_and_wait)

    def bare_bwrap(self) -> float:
        """Run the command in bwrap with the same mounts, but no limits; return milliseconds."""
        command = [*self._command, "--", "true"]
        begin = time.perf_counter()
        subprocess.run(command, env=self._environment, check=True, stdin=subprocess.DEVNULL)
        return _ms_since(begin)

    def docker_run(self) -> float:
        """Run the command by `docker run`; return milliseconds."""
        command = ["docker", "run", "--rm", "--network", "none", self._image, "true"]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return _ms_since(begin)

    async def _start_and_wait(self) -> float:
        driver, folder = self._driver, self._folder / "run"
        folder.mkdir(mode=0o700)
        resources = Resources(memory_mib=64)
        workload = Workload(Digest(bytes(32)), ("true",), resources=resources)
        launch = ContainerSpec(f"{NAME_PREFIX}bench", workload, self._image, budget_ms=60_000)
        await driver.runners.make_ready()
        await trio.sleep(0.1)  # In a daemon it has long been ready when it is needed.
        begin = time.perf_counter()
        await driver.start(launch, folder)
        ended = await driver.wait(folder)
        took_ms = _ms_since(begin)
        assert ended.reason == "exited", f"the floor's container: {ended}"
        self._note_command(folder)
        await driver.remove(folder)
        return took_ms

    def _note_command(self, folder: Path) -> None:
        """Learn from the launch record how bwrap is called."""
        record = records.read(str(folder / records.LAUNCH))
        assert record is not None
        words = [value for key, value in record.pairs if key in {"arg", "path"}]
        disk, plain = (str(each.absolute()) for each in (folder / job_disk.DISK, self._plain()))
        words = [word.replace(disk, plain) for word in words]
        self._command = [record.one("program"), *(w for w in words if w not in OURS_ALONE)]
        self._environment = {"LD_LIBRARY_PATH": record.one("library"), "PATH": os.defpath}

    def _plain(self) -> Path:
        """Return folders that stand for a job's disk, which is gone after its end."""
        place = self._folder / "plain"
        for part in job_disk.PARTS:
            (place / part).mkdir(parents=True, exist_ok=True)
        return place


def loopback_echo() -> float:
    """Return the milliseconds of a round trip over TCP on the loopback, the median of some."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        echo = threading.Thread(target=_echo, args=(server,), daemon=True)
        echo.start()
        with socket.create_connection(server.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            took = sorted(_round_trip(client) for _ in range(ECHOES))
        echo.join()
    return took[len(took) // 2]


def _round_trip(client: socket.socket) -> float:
    begin = time.perf_counter()
    client.sendall(bytes(ECHO_BYTES))
    left = ECHO_BYTES
    while left:
        left -= len(client.recv(left))
    return _ms_since(begin)


def _echo(server: socket.socket) -> None:
    peer, _ = server.accept()
    with peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := peer.recv(ECHO_BYTES):
            peer.sendall(data)


def _ms_since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000
