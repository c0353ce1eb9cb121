"""A trace as a live node would record it, of a small simulated network: what is true is known.

Spec: specs/trace.md#replay.
"""

import json
from pathlib import Path

from node.driver.job_events import detail_of, kind_of
from node.rpc.job_views import JobEventView
from node.service.anonymous import Anonymous
from node.simulator.network import START_MS
from node.simulator.node import SimulatedNode
from node.simulator.simulation import Simulation, World
from node.simulator.world.demand import JobModel, exact_spec
from node.simulator.world.latency import Uniform
from node.simulator.world.pricing import FixedFloors
from node.simulator.world.quantities import Duration
from node.simulator.world.supply import Equal
from node.trace_format import (
    FORMAT,
    VERSION,
    TracedRoundTrip,
    TraceEnd,
    TraceHeader,
    encode_line,
)
from protocol.core.jobs import Job
from protocol.machines import inputs
from protocol.machines.events import JobEvent
from protocol.values.ids import JobId
from tests.node.simulator.small_world import NO_DEMAND

HEADER = TraceHeader(FORMAT, VERSION, "0.1.0")
EVERY_MS = 4_000
WORK_MS = 1_500
PROVIDERS = 4
FLOOR_PERCENT = 70


def write_trace(path: Path, processing_us: int = 6_000, jobs: int = 10, nodes: int = 1) -> Path:
    """Simulate jobs one after the other, each a gang of so many nodes, and write what was seen."""
    world = World(
        PROVIDERS + 1, 1, latency=Uniform(1.0, 3.0), supply=Equal(), demand=NO_DEMAND,
        pricing=FixedFloors(percent=FLOOR_PERCENT), processing_us=processing_us,
    )  # fmt: skip
    simulation = Simulation(world, "flow", 5)
    network, known = simulation.network, {}
    trace = Anonymous(network.identities.peer_of(0), START_MS)
    lines = [HEADER]

    def submitted(node: SimulatedNode, event: inputs.JobSubmitted) -> None:
        known[event.job_id] = Job(event.job_id, event.spec, network.now_ms)
        lines.append(trace.job(known[event.job_id]))

    def witness(node: SimulatedNode, job_id: JobId, event: JobEvent) -> None:
        detail = json.loads(detail_of(event))
        view = JobEventView(1, network.now_ms, kind_of(event), detail)
        lines.append(trace.event(known[job_id], view))

    network.submitted.append(submitted)
    network.witnesses.append(witness)
    for number in simulation.population.providers:
        peer = network.identities.peer_of(number)
        lines.append(trace.offer(peer, simulation.population.record(number, START_MS), START_MS))
        us = network.links.round_trip_us(0, number)
        lines.append(TracedRoundTrip(0, trace.peer(peer), us))
    simulation.start(1)
    for number in range(jobs):
        simulation.advance(number * EVERY_MS)
        model = JobModel(work=Duration(WORK_MS + number), image_mib=8, nodes=nodes)
        simulation.submit(0, exact_spec(model, WORK_MS + number))
    simulation.advance((jobs + 2) * EVERY_MS)
    lines.append(TraceEnd((jobs + 2) * EVERY_MS))
    path.write_bytes(b"".join(map(encode_line, lines)))
    return path
