"""A bulk connection, for a worker thread: all operations block.

Spec: specs/network.md#bulk-connections.
"""

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import outcome
import trio

from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId

T = TypeVar("T")
BLOCK: Final = 1024 * 1024
"""The most bytes of one operation: each has the whole time-out."""


class BulkConnection:
    """Bytes to and from one peer. Every operation ends within twice its time-out."""

    def __init__(self, tls: ssl.SSLSocket, peer: PeerId, timeout_s: float) -> None:
        self.peer = peer
        self.sent = 0
        self.received = 0
        self._tls = tls
        self._timeout_s = timeout_s
        tls.settimeout(timeout_s)

    def fill(self, target: memoryview) -> None:
        """Receive as many bytes as the target has; PeerUnreachable if they do not come in time."""
        if not self.fill_or_end(target):
            raise PeerUnreachable(f"{self.peer} ended the bulk connection")

    def fill_or_end(self, target: memoryview) -> bool:
        """Return whether the target was filled; False if the connection had ended before."""
        assert 0 < len(target) <= BLOCK
        filled = 0
        with reaching(self.peer):
            end = time.monotonic() + self._timeout_s
            while filled < len(target):
                count = self._tls.recv_into(target[filled:])
                if not count:
                    break
                filled += count
                self._require_time(end)
        self.received += filled
        if 0 < filled < len(target):
            raise PeerUnreachable(f"{self.peer} ended the bulk connection early")
        return filled > 0

    def send(self, data: bytes | memoryview) -> None:
        """Send all bytes; PeerUnreachable if the peer does not take them in time."""
        assert len(data) <= BLOCK
        with reaching(self.peer):
            end = time.monotonic() + self._timeout_s
            left = memoryview(data)
            while left:
                left = left[self._tls.send(left) :]
                self._require_time(end)
        self.sent += len(data)

    def _require_time(self, end: float) -> None:
        if time.monotonic() > end:
            raise PeerUnreachable(f"{self.peer} is too slow")


@contextmanager
def reaching(peer: PeerId) -> Iterator[None]:
    """Turn errors of sockets and of TLS into PeerUnreachable."""
    try:
        yield
    except OSError as error:
        raise PeerUnreachable(f"the bulk connection with {peer} broke: {error}") from None


async def in_thread(
    raw: socket.socket, work: Callable[[socket.socket], T], limiter: trio.CapacityLimiter
) -> T:
    """Run work on a socket in a worker thread.

    Cancelling shuts the socket down, which ends the work; it is waited for.
    """
    done: list[outcome.Outcome[T]] = []

    async def end_with_us(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            if not done:
                _shut_down(control)

    # A second handle, which stays valid whatever the thread does with the socket.
    with socket.socket(fileno=os.dup(raw.fileno())) as control:
        async with trio.open_nursery() as nursery:
            await nursery.start(end_with_us)
            done.append(await trio.to_thread.run_sync(_captured, work, raw, limiter=limiter))
            nursery.cancel_scope.cancel()
    return done[0].unwrap()


def _captured(work: Callable[[socket.socket], T], raw: socket.socket) -> outcome.Outcome[T]:
    return outcome.capture(work, raw)


def _shut_down(control: socket.socket) -> None:
    try:
        control.shutdown(socket.SHUT_RDWR)
    except OSError:  # The other side has closed it.
        return
