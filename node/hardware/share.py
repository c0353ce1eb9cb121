"""The resources that this machine lends: the owner's configuration applied to the inventory.

Spec: specs/configuration.md#provider.
"""

from dataclasses import dataclass, replace
from typing import Final

from node.config import ConfigError, ProviderSettings
from node.hardware.gpu import Gpu
from node.hardware.inventory import Inventory

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
    names = {gpu.uuid for gpu in inventory.gpus}
    names |= {part.uuid for gpu in inventory.gpus for part in gpu.mig_devices}
    missing = set(provider.gpus) - names
    if missing:
        why = inventory.gpus_why or "`nvidia-smi -L` or `amd-smi list` shows its GPUs"
        raise ConfigError(f"provider.gpus: {min(missing)} is not in this machine: {why}")
    lent = (_lent_of(gpu, set(provider.gpus)) for gpu in inventory.gpus)
    return tuple(gpu for gpu in lent if gpu is not None)


def _lent_of(gpu: Gpu, named: set[str]) -> Gpu | None:
    """Return a GPU with its lent parts; None if neither it nor a part of it is lent."""
    if gpu.uuid in named:
        return gpu
    parts = tuple(part for part in gpu.mig_devices if part.uuid in named)
    return replace(gpu, mig_devices=parts) if parts else None
