"""What the owner sees of the GPUs of a whole daemon.

Spec: specs/capability.md#telemetry.
"""

from dataclasses import replace

import trio

from node.daemon.assemble import Node
from node.hardware.gpu import GpuReading, MigDevice
from node.service.gpus import GpuService
from protocol.rules.capacity import Device
from tests.node.fixtures import until
from tests.node.hardware.test_gpu import gpu
from tests.node.local_node import LocalNode, open_local_network
from tests.node.memory_stream import MemoryStreams

PARTS = (MigDevice("MIG-1", "A100 MIG 1g.5gb", "a100-mig-1g-5gb", 5_000),)
WHOLE, DIVIDED = gpu(divided=False), replace(gpu(divided=True, parts=PARTS), uuid="GPU-2")
DEVICE = Device("GPU-1", "a100", 40_000)


def service_of(node: Node) -> GpuService:
    """Return the service of a node, as if the machine had two GPUs that do not speak by NVML."""
    node.gpu_telemetry.gpus = (WHOLE, DIVIDED)
    return node.gpus


async def test_each_device_with_its_reading_and_its_state(
    ada_node: LocalNode, streams: MemoryStreams
) -> None:
    capacity = replace(ada_node.policy.capacity, devices=(DEVICE,))
    ada_node.policy = replace(ada_node.policy, providing=True, capacity=capacity, driver="x")
    async with open_local_network(streams, ada_node):
        node = ada_node.node
        service = service_of(node)
        whole, part = service.gpus().gpus
        assert (whole.lent, whole.trouble, whole.lease, whole.temperature_c) == (
            True,
            "",
            None,
            None,
        )
        assert (part.uuid, part.part_of, part.lent) == ("MIG-1", "GPU-2", False)
        node.gpu_telemetry.note([GpuReading("GPU-1", temperature_c=71, power_w=300)])
        assert service.gpus().gpus[0].temperature_c == 71
        node.gpu_telemetry.note([GpuReading("GPU-1", lost="it is gone")])
        with trio.fail_after(10):
            await until(lambda: not service.gpus().gpus[0].lent)
        assert service.gpus().gpus[0].trouble == "it is gone"
        status = node.service.status().provider
        assert [(one.uuid, one.trouble) for one in status.gpu_troubles] == [("GPU-1", "it is gone")]
        assert (status.total.gpus, node.core.presence.record.gpus) == (0, ())


async def test_a_machine_without_gpus_says_why(ada_node: LocalNode, streams: MemoryStreams) -> None:
    async with open_local_network(streams, ada_node):
        view = ada_node.node.gpus.gpus()
        assert view.gpus == ()
        assert view.why
