"""Reading and writing does not wait for a lock that nobody can hold.

Without this repair, every read and write of a stream locks its state, which costs a switch of
tasks. Nothing waits while it has that lock, so it protects nothing.

Spec: specs/network.md.
"""

from typing import Any

import trio
from libp2p.network.stream.net_stream import NetStream


class NoLock:
    """Lets everybody pass at once."""

    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()

    async def __aexit__(self, *_: object) -> None:
        return


FREE = NoLock()


def _set(_stream: NetStream, _lock: Any) -> None:
    return


def apply() -> None:
    """Give all streams the same lock, which is none."""
    NetStream._state_lock = property(lambda _: FREE, _set)  # type: ignore[assignment]  # noqa: SLF001
