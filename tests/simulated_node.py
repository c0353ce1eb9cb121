"""One node of a simulated network: its core, its disk, its sandbox and its clock.

Spec: specs/core.md#driver.
"""

from dataclasses import dataclass, field

from protocol.core.core import Core
from protocol.core.jobs import Job
from protocol.machines import effects, inputs
from protocol.machines.context import Policy
from protocol.machines.events import JobEvent
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.wire.envelope import Signer
from protocol.wire.snapshot import from_snapshot


@dataclass
class Disk:
    """What a node has saved."""

    saved: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    outbox: dict[int, tuple[PeerId, bytes, int]] = field(default_factory=dict)
    events: dict[JobId, list[JobEvent]] = field(default_factory=dict)
    receipts: dict[LeaseId, effects.Settle] = field(default_factory=dict)
    proofs: list[effects.Accuse] = field(default_factory=list)
    rows: int = 0


@dataclass
class Container:
    """The container of one lease. It continues while the daemon is dead, up to its budget."""

    started_ms: int
    budget_ms: int
    pause_ms: int
    launched_by: int
    exited: inputs.ContainerExited | None = None
    told: int = -1
    paused_ms: int = 0
    """The total time of its pauses, up to the last resume."""
    paused_since_ms: int | None = None
    begun_ms: int = 0
    """The work of earlier attempts that it continues from."""

    def used_ms(self, now_ms: int) -> int:
        """Return its usage, less pauses."""
        until_ms = now_ms if self.paused_since_ms is None else self.paused_since_ms
        return until_ms - self.started_ms - self.paused_ms


@dataclass
class Node:
    """One node: its core, its disk, its sandbox."""

    name: str
    signer: Signer
    policy: Policy
    core: Core
    disk: Disk = field(default_factory=Disk)
    alive: bool = True
    generation: int = 0
    behind_ms: int = 0
    """How far its clock is behind the network's: set while it is down, constant while it runs."""
    in_memory: dict[int, tuple[PeerId, bytes, int]] = field(default_factory=dict)
    """Messages that it retries without having saved them."""
    probes: dict[int, PeerId] = field(default_factory=dict)
    """The peers that it asks whether they are there, by the row in memory."""
    containers: dict[LeaseId, Container] = field(default_factory=dict)
    launched: set[LeaseId] = field(default_factory=set)

    @property
    def peer_id(self) -> PeerId:
        return self.signer.peer_id

    @property
    def deadline_ms(self) -> int | None:
        """Return the core's next deadline on the network's clock."""
        deadline_ms = self.core.next_deadline_ms() if self.alive else None
        return None if deadline_ms is None else deadline_ms + self.behind_ms

    def job(self, job_id: JobId) -> Job:
        """Return the job as it is saved."""
        found: Job = from_snapshot(Job, self.disk.saved["job", job_id])
        return found
