"""What the owner allows, made of the configuration, the machine and the sandbox that works.

Spec: specs/discovery.md#own-record.
"""

from dataclasses import replace

from node import VERSION
from node.config import Config
from node.hardware.inventory import Inventory
from protocol.machines.context import Policy
from protocol.rules.capacity import Capacity, Device
from protocol.values.units import GIB, rate_of_hourly
from protocol.wire.messages import Prices

MEMORY_PERCENT = 80
DISK_MIB_MAX = 100 * GIB


def policy_of(config: Config, inventory: Inventory, driver: str, isolation: int) -> Policy:
    """Return what this node offers; nothing if it does not provide or no sandbox works.

    InvalidRequest names a price that is none.
    """
    region, agent = config.provider.region, f"mutirao/{VERSION}"
    bare = Policy(region=region, agent=agent)
    if not config.provider.enabled or not driver:
        return bare
    prices = Prices(
        rate_of_hourly(config.price.cpu_hour),
        rate_of_hourly(config.price.memory_gib_hour),
        rate_of_hourly(config.price.gpu_hour),
    )
    capacity = _capacity(config, inventory)
    return replace(
        bare, providing=True, capacity=capacity, prices=prices, driver=driver, isolation=isolation
    )


def _capacity(config: Config, inventory: Inventory) -> Capacity:
    lent = config.provider
    disk_mib = min(inventory.disk_mib // 2, DISK_MIB_MAX)
    memory_mib = inventory.memory_mib * MEMORY_PERCENT // 100
    devices = tuple(
        Device(gpu.uuid, gpu.gpu_class, gpu.vram_mib or 0, gpu.name[:64])
        for gpu in inventory.gpus
        if lent.gpus == "all" or gpu.uuid in lent.gpus
    )
    return Capacity(
        cpus=inventory.cpus if lent.cpus is None else lent.cpus,
        memory_mib=memory_mib if lent.memory_mib is None else lent.memory_mib,
        disk_mib=disk_mib if lent.disk_mib is None else lent.disk_mib,
        devices=devices,
    )
