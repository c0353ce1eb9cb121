"""Tells systemd how the node is doing: ready, stopping, still alive (sd_notify(3)).

Without systemd, and without NOTIFY_SOCKET in the environment, nothing happens.
Spec: specs/operation.md#systemd.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

import trio

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
ALIVE: Final = "WATCHDOG=1"


def notify(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send a state to systemd; OSError if its socket is not there."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # A name without a file begins with a zero byte.
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_systemd:
        to_systemd.connect(address)
        to_systemd.sendall(state.encode())


def watchdog_interval_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return how often to say ALIVE, half of what systemd waits for; None if it does not wait."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 2_000_000


async def feed_watchdog(environment: Mapping[str, str] = os.environ) -> None:
    """Say ALIVE until cancelled, from the node's own loop: one that hangs is started anew."""
    interval_s = watchdog_interval_s(environment)
    while interval_s is not None:
        notify(ALIVE, environment)
        await trio.sleep(interval_s)
