"""What this node offers follows from configuration, machine and sandbox.

Spec: specs/discovery.md#own-record.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from node.config import Config, ConfigError
from node.config.sections import PriceSettings, ProviderSettings
from node.daemon.policy import policy_of
from node.hardware.gpu import MigDevice
from node.hardware.inventory import Inventory
from protocol.machines.context import NO_CAPACITY
from protocol.rules.capacity import Device
from protocol.values.units import rate_of_hourly
from tests.node.hardware.test_gpu import gpu
from tests.strategies import SIGNERS

MACHINE = Inventory(cpus=8, memory_mib=10_000, disk_mib=50_000, gpus=(), gpus_why="none")


def config(tmp_path: Path, **provider: object) -> Config:
    price = PriceSettings(cpu_hour="0.36", memory_gib_hour="0.0036", gpu_hour="3.6")
    return Config(data_dir=tmp_path, provider=replace(ProviderSettings(), **provider), price=price)


def test_what_is_offered(tmp_path: Path) -> None:
    policy = policy_of(config(tmp_path, region="europe", jobs_max=3), MACHINE, "embedded", 1, 70)
    assert policy.providing
    assert (policy.driver, policy.region, policy.jobs_max) == ("embedded", "europe", 3)
    assert (policy.capacity.cpus, policy.capacity.memory_mib) == (8, 8_000)
    assert policy.prices.cpu == rate_of_hourly("0.36") == 100_000
    assert policy.agent.startswith("mutirao/")


def test_the_floor_is_the_owners_or_drawn(tmp_path: Path) -> None:
    plain = config(tmp_path)
    assert policy_of(plain, MACHINE, "embedded", 1, 70).floor_percent == 70
    owners = replace(plain, price=replace(plain.price, floor_percent=0))
    assert policy_of(owners, MACHINE, "embedded", 1, 70).floor_percent == 0


def test_what_paused_jobs_may_hold(tmp_path: Path) -> None:
    policy = policy_of(config(tmp_path), MACHINE, "embedded", 1, 70)
    assert (policy.pause_ms, policy.pause_memory_mib) == (2_400_000, 4_000)
    less = config(tmp_path, pause_s=5, pause_memory_mib=0)
    policy = policy_of(less, MACHINE, "embedded", 1, 70)
    assert (policy.pause_ms, policy.pause_memory_mib) == (5_000, 0)


def test_how_long_before_a_stop_a_job_is_told(tmp_path: Path) -> None:
    assert policy_of(config(tmp_path), MACHINE, "embedded", 1, 70).notice_ms == 30_000
    assert policy_of(config(tmp_path, notice_s=0), MACHINE, "embedded", 1, 70).notice_ms == 0


@pytest.mark.parametrize("percent", [0, 25, 100])
def test_how_often_sets_are_compared(tmp_path: Path, percent: int) -> None:
    chosen = {} if percent == 25 else {"audit_percent": percent}
    policy = policy_of(config(tmp_path, **chosen), MACHINE, "embedded", 1, 70)
    assert policy.audit_percent == percent


def test_the_owner_may_lend_less(tmp_path: Path) -> None:
    policy = policy_of(
        config(tmp_path, cpus=2, memory_mib=512, disk_mib=64), MACHINE, "docker", 1, 70
    )
    capacity = policy.capacity
    assert (capacity.cpus, capacity.memory_mib, capacity.disk_mib) == (2, 512, 64)


@pytest.mark.parametrize("enabled, driver", [(False, "embedded"), (True, "")])
def test_nothing_is_offered(tmp_path: Path, enabled: bool, driver: str) -> None:
    policy = policy_of(config(tmp_path, enabled=enabled), MACHINE, driver, 1, 70)
    assert (policy.providing, policy.capacity) == (False, NO_CAPACITY)


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="GPU-1"):
        policy_of(config(tmp_path, gpus=("GPU-1",)), MACHINE, "embedded", 1, 70)


def test_each_part_of_a_divided_gpu_is_a_device(tmp_path: Path) -> None:
    part = MigDevice("MIG-1", "NVIDIA A100 MIG 1g.5gb", "a100-mig-1g-5gb", 5_000)
    divided = replace(gpu(divided=True, parts=(part,)), uuid="GPU-2")
    machine = replace(MACHINE, gpus=(gpu(divided=False), divided))
    policy = policy_of(config(tmp_path), machine, "embedded", 1, 70)
    assert policy.capacity.devices == (
        Device("GPU-1", "a100", 40_000, "NVIDIA A100"),
        Device("MIG-1", "a100-mig-1g-5gb", 5_000, "NVIDIA A100 MIG 1g.5gb"),
    )


def test_whom_the_owner_serves(tmp_path: Path) -> None:
    peer, image = SIGNERS[1].peer_id, "ab" * 32
    chosen = config(tmp_path, allow_peers=(peer,), deny_images=(image,))
    priced = replace(chosen, price=replace(chosen.price, gpu_floor_hour=("h100-80gb=1.8",)))
    rules = policy_of(priced, MACHINE, "embedded", 1, 70).rules
    assert (rules.allowed_peers, rules.denied_peers) == ({peer}, set())
    assert (rules.allowed_images, rules.denied_images) == (set(), {bytes.fromhex(image)})
    assert rules.gpu_floors == (("h100-80gb", rate_of_hourly("1.8")),)
    dear = replace(chosen, price=replace(chosen.price, gpu_floor_hour=("h100-80gb=3.7",)))
    with pytest.raises(ConfigError, match=r"gpu_floor_hour: h100-80gb=3.7 is more than price.gpu_"):
        policy_of(dear, MACHINE, "embedded", 1, 70)
