"""One node of a simulated network of a test: that of the simulator, and what tests ask about it.

Spec: specs/core.md#driver.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from node.simulator.node import Disk, SimulatedNode
from protocol.core.jobs import Job
from protocol.machines import effects, provider, requester
from protocol.machines.events import JobEvent
from protocol.values.ids import JobId, LeaseId
from protocol.wire.envelope import Signer
from protocol.wire.snapshot import from_snapshot, to_snapshot

TABLES: Final = {
    "job": Job, "award": requester.award.State, "requester-lease": requester.lease.State,
    "provider-lease": provider.lease.State,
}  # fmt: skip


@dataclass(slots=True)
class RecordingDisk(Disk):
    """A disk that remembers what else a core wanted to be known."""

    events: dict[JobId, list[JobEvent]] = field(default_factory=dict)
    receipts: dict[LeaseId, effects.Settle] = field(default_factory=dict)
    proofs: list[effects.Accuse] = field(default_factory=list)

    def reread(self) -> None:
        """Read all states anew from the bytes that a real disk would hold."""
        self.saved = {
            (table, key): from_snapshot(TABLES[table], to_snapshot(state))
            for (table, key), state in self.saved.items()
        }


@dataclass(slots=True)
class SnapshotDisk(RecordingDisk):
    """A disk that holds states as the bytes that a real one holds."""

    def keep(self, effect: effects.Save) -> None:
        if effect.state is None:
            self.saved.pop((effect.table, effect.key), None)
        else:
            self.saved[effect.table, effect.key] = to_snapshot(effect.state)

    def states(self, table: str) -> tuple[Any, ...]:
        found = ((name, data) for (name, _), data in self.saved.items())
        return tuple(from_snapshot(TABLES[name], data) for name, data in found if name == table)

    def job(self, job_id: JobId) -> Job:
        found: Job = from_snapshot(Job, self.saved["job", job_id])
        return found


@dataclass(slots=True, eq=False)
class Node(SimulatedNode):
    """One node with a name."""

    disk: RecordingDisk = field(default_factory=SnapshotDisk)
    name: str = ""
    launched: set[LeaseId] = field(default_factory=set)
    """The leases whose container was ever started."""

    @property
    def signer(self) -> Signer:
        return self.core.signer
