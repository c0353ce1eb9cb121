"""The GPUs of this machine as its owner sees them: what they report, who has them, their troubles.

Spec: specs/capability.md#telemetry.
"""

from dataclasses import dataclass

from node.hardware.gpu import Gpu, GpuDevice, GpuReading
from node.hardware.telemetry import GpuTelemetry
from node.provider.executions import Executions
from node.rpc.gpu_views import GpuStateView, GpusView, GpuTroubleView
from protocol.core.core import Core


@dataclass(slots=True)
class GpuService:
    """Implements node.rpc.service.GpuApi."""

    telemetry: GpuTelemetry
    executions: Executions
    core: Core
    why: str
    """Why there are no GPUs, or fewer than expected."""

    def gpus(self) -> GpusView:
        """Return each assignable device."""
        states = [self._state(gpu, each) for gpu in self.telemetry.gpus for each in gpu.devices]
        why = self.why if states or self.core.policy.driver else "this node does not provide"
        return GpusView(tuple(states), why)

    def troubles(self) -> tuple[GpuTroubleView, ...]:
        """Return why devices are not lent."""
        return tuple(GpuTroubleView(*one) for one in sorted(self.telemetry.troubles.items()))

    def _state(self, gpu: Gpu, device: GpuDevice) -> GpuStateView:
        uuid = device.uuid
        reading = self.telemetry.readings.get(uuid, GpuReading(uuid))
        lease_id, requester = self.executions.holders().get(uuid, (None, None))
        return GpuStateView(
            uuid=uuid,
            name=device.name,
            gpu_class=device.gpu_class,
            vram_mib=device.vram_mib,
            part_of=gpu.uuid if gpu.mig_enabled else None,
            lent=any(one.uuid == uuid for one in self.core.policy.capacity.devices),
            trouble=self.telemetry.troubles.get(uuid, ""),
            lease=lease_id.hex() if lease_id else None,
            requester=requester,
            utilisation_percent=reading.utilisation_percent,
            memory_used_mib=reading.memory_used_mib,
            temperature_c=reading.temperature_c,
            slowdown_c=reading.slowdown_c,
            power_w=reading.power_w,
            power_limit_w=gpu.power_limit_w,
            ecc_errors=reading.ecc_errors,
        )
