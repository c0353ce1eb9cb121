"""What jobs reached, for the owner: one file of JSON lines, and one before it.

A line is the sum of what happened to one name within a moment, so a flood costs few lines.

Spec: specs/egress.md#log.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import trio

from node.egress.proxy import ProxyUse
from protocol.values.ids import LeaseId, PeerId

LOG: Final = logging.getLogger(__name__)
FILE: Final = "egress.jsonl"
WRITE_S: Final = 1
FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A larger file takes the place of the one before it."""
PENDING_MAX: Final = 256
"""Names and outcomes of a moment that have lines of their own."""
OTHERS: Final = "(others)"


@dataclass(frozen=True, slots=True)
class Reached:
    """How a job used the proxy for one name and port, with one outcome."""

    lease: str
    requester: str
    host: str
    """A name or an address; OTHERS stands for those that were too many."""
    port: int
    refused: str
    """Why it was refused, or ended early; empty if it was not."""
    uses: int = 0
    sent: int = 0
    received: int = 0
    first_ms: int = 0
    last_ms: int = 0

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What is summed up."""
        return self.lease, self.host, self.port, self.refused


class EgressLog:
    """Appends what is noted soon, and sums it up for the owner."""

    def __init__(self, folder: Path, clock_ms: Callable[[], int]) -> None:
        """Take the folder of the file."""
        self._path = folder / FILE
        self._clock_ms = clock_ms
        self._pending: dict[tuple[str, str, int, str], Reached] = {}
        self._noted = trio.Event()
        self._writing = trio.Lock()

    def note(self, lease_id: LeaseId, requester: PeerId, use: ProxyUse) -> None:
        """Write down a use soon."""
        now_ms = self._clock_ms()
        one = Reached(
            lease_id.hex(), requester, use.host, use.port, use.refused,
            1, use.sent, use.received, now_ms, now_ms,
        )  # fmt: skip
        if one.key not in self._pending and len(self._pending) >= PENDING_MAX:
            why = "refused" if use.refused else ""
            one = replace(one, host=OTHERS, port=0, refused=why)
        _add(self._pending, one)
        self._noted.set()

    async def newest(self, lease: str, limit: int) -> tuple[Reached, ...]:
        """Return what the leases reached whose id begins so, the latest first."""
        await self.write()
        return await trio.to_thread.run_sync(_newest, self._path, lease, limit)

    async def write(self) -> None:
        """Write what is only noted; a disk that is full loses it."""
        async with self._writing:
            pending, self._pending = self._pending, {}
            if not pending:
                return
            try:
                await trio.to_thread.run_sync(_append, self._path, pending.values())
            except OSError as error:
                LOG.warning("what jobs reached is not written down: %s", error)

    async def run(self) -> None:
        """Write what is noted, until cancelled."""
        while True:
            await self._noted.wait()
            self._noted = trio.Event()
            await trio.sleep(WRITE_S)
            await self.write()


def _add(sums: dict[tuple[str, str, int, str], Reached], one: Reached) -> None:
    before = sums.pop(one.key, replace(one, uses=0, sent=0, received=0))
    sums[one.key] = replace(
        before,
        uses=before.uses + one.uses,
        sent=before.sent + one.sent,
        received=before.received + one.received,
        last_ms=max(before.last_ms, one.last_ms),
    )


def _append(path: Path, lines: Iterable[Reached]) -> None:
    path.touch(0o600)
    with path.open("a") as file:
        file.writelines(json.dumps(asdict(line)) + "\n" for line in lines)
        is_large = file.tell() > FILE_BYTES_MAX
    if is_large:
        path.rename(_before(path))


def _before(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _newest(path: Path, lease: str, limit: int) -> tuple[Reached, ...]:
    sums: dict[tuple[str, str, int, str], Reached] = {}
    for one in _read(_before(path), path):
        if one.lease.startswith(lease):
            _add(sums, one)
    found = sorted(sums.values(), key=lambda one: -one.last_ms)
    return tuple(found[:limit])


def _read(*paths: Path) -> Iterator[Reached]:
    """Yield all lines; one that a crash cut short is left out."""
    for path in paths:
        if path.exists():
            with path.open() as file:
                yield from filter(None, map(_line, file))


def _line(text: str) -> Reached | None:
    try:
        return Reached(**json.loads(text))
    except (ValueError, TypeError):
        return None
