"""One node of a simulated network: its core, its disk, its sandbox.

Spec: specs/simulation.md#nodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from node.simulator.world.adversaries import AnyCore
from protocol.core.core import Saved
from protocol.core.jobs import Job
from protocol.machines import inputs
from protocol.machines.context import Policy
from protocol.machines.effects import Save
from protocol.rules.fraud import Finding
from protocol.values.ids import JobId, LeaseId, PeerId

TABLES: Final = ("job", "award", "requester-lease", "provider-lease")


@dataclass(slots=True)
class Disk:
    """What a node has saved. States never change, so they are kept as they are."""

    saved: dict[tuple[str, bytes], Any] = field(default_factory=dict)
    outbox: dict[int, tuple[PeerId, bytes, int]] = field(default_factory=dict)
    images: set[bytes] = field(default_factory=set)
    """The digests of images that it has fetched."""
    settled: list[tuple[PeerId, int]] = field(default_factory=list)
    """Peers with which this node has settled, and for how much usage each paid it, in ms."""
    proven: list[Finding] = field(default_factory=list)
    """The frauds of requesters that it can prove."""
    launched: set[LeaseId] = field(default_factory=set)
    """The leases whose container was started and not discarded; the container may be gone."""

    def keep(self, effect: Save) -> None:
        """Save a state, or discard it."""
        if effect.state is None:
            self.saved.pop((effect.table, effect.key), None)
        else:
            self.saved[effect.table, effect.key] = effect.state

    def states(self, table: str) -> tuple[Any, ...]:
        return tuple(state for (name, _), state in self.saved.items() if name == table)

    def job(self, job_id: JobId) -> Job:
        """Return a job as it is saved."""
        found: Job = self.saved["job", job_id]
        return found

    def read(self, sequence: int) -> Saved:
        """Return what the core continues with after a restart."""
        jobs, awards, leases, provided = map(self.states, TABLES)
        settled = tuple(reversed(self.settled))
        return Saved(jobs, awards, leases, provided, sequence, settled, tuple(self.proven))


@dataclass(slots=True)
class SimulatedContainer:
    """The container of one lease."""

    work_ms: int
    """How much usage its job needs, less what it continues from."""
    budget_ms: int
    pause_ms: int
    started_ms: int
    exited: inputs.ContainerExited | None = None
    paused_ms: int = 0
    """The total time of its pauses, up to the last resume."""
    paused_since_ms: int | None = None
    begun_ms: int = 0
    """The work of earlier attempts that it continues from."""
    watched_by: int = 0
    """The generation of the node that has launched, adopted or killed it."""
    told: int = -1
    """The generation of the node that was told of its end."""

    def used_ms(self, now_ms: int) -> int:
        """Return its usage: the time since its start, less pauses."""
        if self.exited is not None:
            return self.exited.usage_ms
        until_ms = now_ms if self.paused_since_ms is None else self.paused_since_ms
        return until_ms - self.started_ms - self.paused_ms


@dataclass(slots=True, eq=False)
class SimulatedNode:
    """One node. Its containers end with its machine, not with its daemon."""

    number: int
    policy: Policy
    core: AnyCore
    disk: Disk = field(default_factory=Disk)
    online: bool = True
    generation: int = 0
    """How often it has gone."""
    busy_until: int = 0
    """The tick until which it processes what has come."""
    wakes: list[int] = field(default_factory=list)
    """When it will be woken, the earliest last: another one is scheduled only if it is earlier."""
    rows: int = 0
    """How many messages it has sent with retries."""
    in_memory: dict[int, tuple[PeerId, bytes, int]] = field(default_factory=dict)
    """Messages that it sends again without having saved them."""
    containers: dict[LeaseId, SimulatedContainer] = field(default_factory=dict)
    behind_ms: int = 0
    """How far its clock is behind: set while it is away, constant while it runs."""

    @property
    def peer_id(self) -> PeerId:
        return self.core.signer.peer_id

    @property
    def deadline_ms(self) -> int | None:
        """When it wants to be woken, on the network's clock."""
        deadline_ms = self.core.next_deadline_ms() if self.online else None
        return None if deadline_ms is None else deadline_ms + self.behind_ms

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs that it has saved."""
        yield from self.disk.states("job")

    def job(self, job_id: JobId) -> Job:
        """Return a job as it is saved."""
        return self.disk.job(job_id)
