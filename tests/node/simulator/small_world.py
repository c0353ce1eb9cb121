"""A small simulated world that tests submit jobs to, and what became of them.

Spec: specs/simulation.md#runs.
"""

from collections.abc import Callable
from typing import Any

from node.simulator.engine import TICKS_PER_MS
from node.simulator.node import SimulatedNode
from node.simulator.simulation import FLOW, Simulation, World
from node.simulator.world.churn import PresenceChange
from node.simulator.world.demand import JobModel, Poisson, spec_of
from node.simulator.world.latency import Uniform
from node.simulator.world.quantities import Duration
from node.simulator.world.supply import Equal
from protocol.machines import effects, inputs
from protocol.machines.events import Done, Failed, JobEvent
from protocol.values.ids import JobId

MEAN = 0.6321205588285577
"""What is drawn for a job whose work is the mean."""
NO_DEMAND = Poisson(per_minute=0.0)


class SmallWorld:
    """A simulation and what it told."""

    def __init__(self, world: World, tier: str = FLOW, seed: int = 1) -> None:
        self.simulation = Simulation(world, tier, seed)
        self.network = self.simulation.network
        self.events: dict[JobId, list[JobEvent]] = {}
        self.settled: list[effects.Settle] = []
        self.reacts: Callable[[JobId, JobEvent], object] = lambda job_id, event: None
        """Is called with each event of a job."""
        self.network.witnesses.append(self._witness)
        self.network.settled.append(self.settled.append)
        self.simulation.start(24 * 3_600_000)

    def submit(self, work_ms: int = 20_000, requester: int = 0, **more: Any) -> JobId:
        """Submit a job that needs so much work."""
        job_id = JobId(bytes([len(self.events) + 1]) * 16)
        self.events[job_id] = []
        spec = spec_of(JobModel(work=Duration(work_ms), **{"image_mib": 1} | more), MEAN)
        node = self.network.nodes[requester]
        self.network.submit(node, inputs.JobSubmitted(job_id, spec))
        return job_id

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        self.network.engine.run(self.network.engine.now + duration_ms * TICKS_PER_MS)

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 600_000) -> bool:
        """Let time pass until a condition holds; say whether it does."""
        engine = self.network.engine
        return engine.run_until(condition, engine.now + limit_ms * TICKS_PER_MS)

    def run_until_all_ended(self, limit_ms: int = 3_600_000) -> bool:
        return self.run_until(lambda: all(map(self.ended, self.jobs())), limit_ms)

    def change(self, number: int, *, online: bool) -> None:
        """Let a node go or come back."""
        self.simulation._change(number, PresenceChange(0, online), iter(()))

    def jobs(self) -> list[JobId]:
        """Return the jobs that all requesters have saved."""
        return [job.job_id for node in self.network.nodes.values() for job in node.jobs()]

    def names(self, job_id: JobId) -> list[str]:
        """Return the names of a job's events."""
        return [type(event).__name__ for event in self.events[job_id]]

    def ended(self, job_id: JobId) -> bool:
        events = self.events.get(job_id)
        return bool(events) and isinstance(events[-1], Done | Failed)

    def is_at(self, job_id: JobId, name: str) -> bool:
        return self.names(job_id)[-1:] == [name]

    def provider_of(self, job_id: JobId) -> SimulatedNode:
        """Return the node that has a job's last award."""
        peers = [event.provider for event in self.events[job_id] if hasattr(event, "provider")]
        node = self.network.peer(peers[-1])
        assert node is not None
        return node

    def check(self) -> None:
        """Assert what always holds of honest nodes: nothing illegal, nothing lent twice."""
        for node in self.network.nodes.values():
            assert not node.core.illegal
            has = node.policy.capacity
            taken = node.core.provider._leased()
            for name in ("cpus", "memory_mib", "disk_mib"):
                used = sum(getattr(each.resources, name) for each in taken)
                assert used <= getattr(has, name)
            devices = [uuid for each in taken for uuid in each.devices]
            assert len(devices) == len(set(devices))
            assert set(devices) <= {device.uuid for device in has.devices}
            assert len(node.containers) <= len(node.core.provider.leases)

    def _witness(self, node: SimulatedNode, job_id: JobId, event: JobEvent) -> None:
        self.events.setdefault(job_id, []).append(event)
        self.reacts(job_id, event)


def equal_world(nodes: int = 5, **more: Any) -> World:
    """Return a world of one requester and equal providers close by, without jobs of its own."""
    given = {"latency": Uniform(5.0, 6.0), "supply": Equal(), "demand": NO_DEMAND} | more
    return World(nodes=nodes, requesters=1, **given)
