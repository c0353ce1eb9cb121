"""The fraud proofs that this node has written: one file each, for its owner to show to anybody.

Spec: specs/fraud.md#files.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Final

import trio

from node.data.disk import full_disk_as_storage_full
from protocol.machines.effects import Accuse
from protocol.rules.fraud import Finding, Fraud, verify
from protocol.values.errors import InvalidProof, NothingProven, StorageFull
from protocol.values.ids import CallId
from protocol.values.limits import PROOFS_MAX

LOG: Final = logging.getLogger(__name__)
SUFFIX: Final = ".proof"
QUEUE_MAX: Final = 64


def name_of_proof(call_id: CallId, fraud: Fraud) -> str:
    """Return the name of the file that proves a fraud in an auction."""
    return f"{call_id.hex()[:16]}-{fraud.code}{SUFFIX}"


class Proofs:
    """Writes proofs in the background; keeps the newest PROOFS_MAX."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        """How many proofs are in the folder."""
        self._folder = folder
        self._queue, self._queued = trio.open_memory_channel[Accuse](QUEUE_MAX)

    def keep(self, accusation: Accuse) -> None:
        """Write a proof, soon; it is discarded if too many wait."""
        finding = accusation.finding
        LOG.warning("%s cheated: %s", finding.requester, finding.why,
                    extra={"fraud": finding.fraud.code})  # fmt: skip
        try:
            self._queue.send_nowait(accusation)
        except trio.WouldBlock:
            LOG.warning("too many proofs to write: one is discarded")

    async def run(self) -> None:
        """Write proofs, until cancelled."""
        async for accusation in self._queued:
            try:
                await trio.to_thread.run_sync(partial(self._write, accusation))
            except StorageFull as error:
                LOG.warning("a proof is lost: %s", error)

    async def read(self) -> tuple[Finding, ...]:
        """Return what the proofs in the folder show; those that show nothing are left out."""
        return await trio.to_thread.run_sync(self._read)

    def _read(self) -> tuple[Finding, ...]:
        found = []
        paths = self._newest_last()
        self.count = len(paths)
        for path in paths:
            try:
                found.append(verify(path.read_bytes()))
            except (InvalidProof, NothingProven) as error:
                LOG.warning("%s is no proof: %s", path.name, error)
        return tuple(found)

    def _write(self, accusation: Accuse) -> None:
        finding = accusation.finding
        path = self._folder / name_of_proof(finding.call_id, finding.fraud)
        with full_disk_as_storage_full(self._folder):
            draft = path.with_suffix(".draft")
            draft.write_bytes(accusation.proof)
            draft.rename(path)
        paths = self._newest_last()
        for old in paths[:-PROOFS_MAX]:
            old.unlink()
        self.count = min(len(paths), PROOFS_MAX)

    def _newest_last(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
