"""A GPU that vanishes leaves the offer, and takes the job on it along: the requester is told.

Spec: specs/capability.md#gpu-trouble.
"""

from dataclasses import replace

import pytest
import trio

from node.hardware.gpu import GpuReading
from node.hardware.telemetry import GpuTelemetry
from node.provider.gpu_guard import GpuGuard
from protocol.machines import inputs
from protocol.rules.capacity import Device, Reservation
from protocol.values.reasons import Release
from tests.node.fixtures import ADA, BEA, LEASE, NodeFolder, launch_of, running, spec_of, until
from tests.node.local_node import LocalPair

GONE = GpuReading("GPU-1", lost="the driver lost it")
SOUND = GpuReading("GPU-1", temperature_c=50)


@pytest.fixture
def telemetry() -> GpuTelemetry:
    return GpuTelemetry([], lambda: 0)


async def test_a_vanished_gpu_ends_its_job_and_no_other(
    bea: NodeFolder, telemetry: GpuTelemetry, nursery: trio.Nursery
) -> None:
    launch = launch_of(await bea.workload())
    on_gpu = replace(launch, reservation=Reservation(launch.reservation.resources, ("GPU-1",)))
    async with running(bea.executions()) as executions:
        nursery.start_soon(GpuGuard(telemetry, executions, bea.inbox).run)
        executions.launch(on_gpu)
        await bea.inbox.wait_for(inputs.ContainerStarted)
        assert executions.holders() == {"GPU-1": (LEASE, ADA.peer_id)}
        telemetry.note([replace(GONE, uuid="GPU-2")] * 2)
        telemetry.note([GONE])
        await until(lambda: inputs.DevicesWithheld(frozenset({"GPU-1", "GPU-2"}))
                    in bea.inbox.events)  # fmt: skip
        failures = [e for e in bea.inbox.events if isinstance(e, inputs.ContainerFailed)]
        assert not failures  # It may have been a mistake.
        telemetry.note([GONE])
        told = "GPU GPU-1 of this job vanished: the driver lost it"
        failed = await bea.inbox.wait_for(inputs.ContainerFailed)
        assert failed == inputs.ContainerFailed(LEASE, told, Release.GPU_LOST)
        assert executions.holders() == {}


async def test_the_requester_hears_of_it_and_tries_elsewhere(pair: LocalPair) -> None:
    await pair.bea.crash()
    device = Device("GPU-1", "h200", 141_000)
    capacity = replace(pair.bea.policy.capacity, devices=(device,))
    pair.bea.policy = replace(pair.bea.policy, capacity=capacity)
    await pair.network.start(pair.bea)
    await pair.network.acquainted()
    bea = pair.bea.node
    workload = await pair.ada.node_folder.workload()
    wanted = replace(workload, resources=replace(workload.resources, gpus=1))
    job = (await pair.jobs.submit(spec_of(wanted))).id
    await pair.phase(job, "running")
    assert set(bea.executions.holders()) == {"GPU-1"}
    bea.gpu_telemetry.note([GONE])
    bea.gpu_telemetry.note([GONE])
    await pair.phase(job, "queued", "failed")  # There is no other node with a GPU.
    (attempt,) = (await pair.jobs.get(job)).failed_attempts
    assert (attempt.reason, attempt.provider) == ("gpu-lost", BEA.peer_id)
    assert attempt.why == "GPU GPU-1 of this job vanished: the driver lost it"
    assert (attempt.usage_ms, attempt.cost) == (0, "0.000000000")


async def test_a_job_is_not_started_on_a_gpu_that_has_vanished(
    bea: NodeFolder, telemetry: GpuTelemetry, nursery: trio.Nursery
) -> None:
    launch = launch_of(await bea.workload())
    on_gpu = replace(launch, reservation=Reservation(launch.reservation.resources, ("GPU-1",)))
    telemetry.note([GONE])
    telemetry.note([GONE])
    async with running(bea.executions()) as executions:
        nursery.start_soon(GpuGuard(telemetry, executions, bea.inbox).run)
        await bea.inbox.wait_for(inputs.DevicesWithheld)
        await trio.testing.wait_all_tasks_blocked()
        executions.launch(on_gpu)
        assert (await bea.inbox.wait_for(inputs.ContainerFailed)).reason is Release.GPU_LOST


async def test_a_gpu_that_is_well_again_is_lent_again(
    bea: NodeFolder, nursery: trio.Nursery
) -> None:
    now_ms = [0]
    telemetry = GpuTelemetry([], lambda: now_ms[0])
    async with running(bea.executions()) as executions:
        nursery.start_soon(GpuGuard(telemetry, executions, bea.inbox).run)
        telemetry.note([GONE])
        await bea.inbox.wait_for(inputs.DevicesWithheld)
        telemetry.note([SOUND])
        now_ms[0] = 10**9
        telemetry.note([SOUND])
        await until(lambda: inputs.DevicesWithheld(frozenset()) in bea.inbox.events)
