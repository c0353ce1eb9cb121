"""What the owner allows, derived from the configuration, the machine and the sandbox.

Spec: specs/discovery.md#own-record.
"""

from dataclasses import replace

from node import VERSION
from node.config import Config, ConfigError
from node.hardware.inventory import Inventory
from node.hardware.share import Share, share_of
from protocol.machines.context import Policy
from protocol.rules.capacity import Capacity, Device
from protocol.rules.owner_rules import OwnerRules
from protocol.values.ids import Digest, PeerId
from protocol.values.units import rate_of_hourly
from protocol.wire.messages import Prices


def policy_of(
    config: Config, inventory: Inventory, driver: str, isolation: int, floor_drawn: int
) -> Policy:
    """Return what this node offers; nothing if it does not provide or no sandbox works.

    `floor_drawn` is the floor, in percent of the list prices, of an owner that sets none.
    Raises ConfigError or ValueError that names an invalid price or GPU.
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
    floor = config.price.floor_percent
    capacity = _capacity(share_of(inventory, config.provider))
    return replace(
        bare, providing=True, capacity=capacity, prices=prices, driver=driver, isolation=isolation,
        floor_percent=floor_drawn if floor is None else floor, jobs_max=config.provider.jobs_max,
        pause_ms=config.provider.pause_s * 1000, notice_ms=config.provider.notice_s * 1000,
        audit_percent=config.provider.audit_percent,
        pause_memory_mib=_pause_memory_mib(config, capacity), rules=_rules(config),
    )  # fmt: skip


def _rules(config: Config) -> OwnerRules:
    provider = config.provider
    floors = dict(each.split("=") for each in config.price.gpu_floor_hour)
    rates = {gpu_class: rate_of_hourly(price) for gpu_class, price in floors.items()}
    for gpu_class, rate in rates.items():
        if rate > rate_of_hourly(config.price.gpu_hour):
            raise ConfigError(
                f"price.gpu_floor_hour: {gpu_class}={floors[gpu_class]} is more than"
                f" price.gpu_hour, the most that this node asks: {config.price.gpu_hour}"
            )
    return OwnerRules(
        frozenset(map(PeerId, provider.allow_peers)),
        frozenset(map(PeerId, provider.deny_peers)),
        frozenset(map(_digest, provider.allow_images)),
        frozenset(map(_digest, provider.deny_images)),
        tuple(rates.items()),
    )


def _digest(text: str) -> Digest:
    return Digest(bytes.fromhex(text))


def _pause_memory_mib(config: Config, capacity: Capacity) -> int:
    own = config.provider.pause_memory_mib
    return capacity.memory_mib // 2 if own is None else own


def _capacity(share: Share) -> Capacity:
    devices = tuple(
        Device(each.uuid, each.gpu_class, each.vram_mib or 0, each.name[:48])
        for gpu in share.gpus
        for each in gpu.devices
    )
    return Capacity(share.cpus, share.memory_mib, share.disk_mib, devices)
