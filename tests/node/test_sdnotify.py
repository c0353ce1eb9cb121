"""systemd hears what it needs, and nobody is bothered without it.

Spec: specs/operation.md#systemd.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from node.sdnotify import ALIVE, READY, STOPPING, feed_watchdog, notify, watchdog_interval_s


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def test_states_arrive(systemd: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": systemd.getsockname()}
    notify(READY, environment)
    notify(STOPPING, environment)
    assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_name_without_a_file_is_understood() -> None:
    name = f"mutirao-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.settimeout(5)
        notify(READY, {"NOTIFY_SOCKET": "@" + name})
        assert listener.recv(100) == b"READY=1"


def test_nothing_happens_without_systemd() -> None:
    notify(READY, {})


@pytest.mark.parametrize(
    "environment,expected",
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environment, expected) -> None:
    assert watchdog_interval_s(environment) == expected


async def test_watchdog_is_fed_in_time(systemd: socket.socket, autojump_clock) -> None:
    environment = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "30000000"}
    with trio.move_on_after(31):
        await feed_watchdog(environment)
    assert [systemd.recv(100) for _ in range(3)] == [ALIVE.encode()] * 3
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(100)


async def test_watchdog_that_nobody_waits_for_ends_at_once() -> None:
    await feed_watchdog({})
