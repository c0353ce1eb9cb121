"""The resources that this machine lends: the owner's configuration applied to the inventory.

Spec: specs/configuration.md#provider.
"""

from dataclasses import dataclass
from typing import Final

from node.config import ConfigError, ProviderSettings
from node.hardware.inventory import Inventory
from node.hardware.nvidia import Gpu

MEMORY_PERCENT: Final = 80
DISK_PERCENT: Final = 50
DISK_MIB_MAX: Final = 100 * 1024


@dataclass(frozen=True, slots=True)
class Share:
    """What all jobs of others together may use; nothing if the owner lends nothing."""

    cpus: int
    memory_mib: int
    disk_mib: int
    gpus: tuple[Gpu, ...]


NOTHING: Final = Share(cpus=0, memory_mib=0, disk_mib=0, gpus=())


def share_of(inventory: Inventory, provider: ProviderSettings) -> Share:
    """Return what is lent: the configured resources, at most the existing ones.

    Raises ConfigError if the owner lends a GPU that does not exist.
    """
    if not provider.enabled:
        return NOTHING
    disk_mib = min(inventory.disk_mib * DISK_PERCENT // 100, DISK_MIB_MAX)
    return Share(
        cpus=_least(provider.cpus, inventory.cpus, inventory.cpus),
        memory_mib=_least(
            provider.memory_mib,
            inventory.memory_mib * MEMORY_PERCENT // 100,
            inventory.memory_mib,
        ),
        disk_mib=_least(provider.disk_mib, disk_mib, inventory.disk_mib),
        gpus=_gpus(inventory, provider),
    )


def _least(wanted: int | None, default: int, there: int) -> int:
    return min(default if wanted is None else wanted, there)


def _gpus(inventory: Inventory, provider: ProviderSettings) -> tuple[Gpu, ...]:
    """Return the lent GPUs; one divided into parts may be named by itself or by a part."""
    if provider.gpus == "all":
        return inventory.gpus
    names = {gpu: {gpu.uuid, *(part.uuid for part in gpu.mig_devices)} for gpu in inventory.gpus}
    missing = set(provider.gpus).difference(*names.values())
    if missing:
        why = inventory.gpus_why or "`nvidia-smi -L` lists its GPUs"
        raise ConfigError(f"provider.gpus: {min(missing)} is not in this machine: {why}")
    return tuple(gpu for gpu, own in names.items() if own & set(provider.gpus))
