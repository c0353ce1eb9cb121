"""Reports the node's state to systemd: ready, stopping, alive (sd_notify(3)).

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
    """Send a state to systemd; OSError if its socket is missing."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # An abstract name begins with a zero byte.
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_systemd:
        to_systemd.connect(address)
        to_systemd.sendall(state.encode())


def watchdog_interval_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return the interval of ALIVE, half of systemd's time-out; None without a watchdog."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 2_000_000


async def feed_watchdog(environment: Mapping[str, str] = os.environ) -> None:
    """Send ALIVE until cancelled, from the node's event loop: systemd restarts a hung node."""
    interval_s = watchdog_interval_s(environment)
    while interval_s is not None:
        notify(ALIVE, environment)
        await trio.sleep(interval_s)
