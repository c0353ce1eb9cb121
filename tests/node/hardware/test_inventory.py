"""The inventory counts what we may use, not what the machine has.

Spec: specs/capability.md#resources.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from node.hardware import inventory
from node.hardware.cgroup import CgroupLimits
from node.hardware.inventory import take_inventory, usable_cpus, usable_memory_mib
from tests.node.hardware.test_gpu import gpu


@pytest.mark.parametrize(
    "allowed,millis,expected", [(8, None, 8), (8, 3500, 3), (8, 64_000, 8), (8, 250, 1), (1, 1, 1)]
)
def test_usable_cpus(allowed: int, millis: int | None, expected: int) -> None:
    assert usable_cpus(allowed, CgroupLimits(millis, None)) == expected


@pytest.mark.parametrize("limit_mib,expected", [(None, 64), (16, 16), (128, 64)])
def test_usable_memory(limit_mib: int | None, expected: int) -> None:
    limits = CgroupLimits(None, None if limit_mib is None else limit_mib << 20)
    assert usable_memory_mib(64 << 20, limits) == expected


def test_inventory_of_this_machine(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(inventory, "take_gpus", lambda: ((), "none here"))
    found = take_inventory(tmp_path)
    assert 1 <= found.cpus <= os.cpu_count()
    assert 64 < found.memory_mib < 2**26
    disk = os.statvfs(tmp_path)
    assert 0 < found.disk_mib <= disk.f_blocks * disk.f_frsize >> 20
    assert (found.gpus, found.gpus_why) == ((), "none here")


def test_limits_of_the_groups_are_heeded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(inventory, "cgroup_limits", lambda: CgroupLimits(1000, 32 << 20))
    found = take_inventory(tmp_path)
    assert (found.cpus, found.memory_mib) == (1, 32)


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        take_inventory(tmp_path / "none")


ONE = (gpu(divided=False),)


@pytest.mark.parametrize(
    "nvidia, amd, expected",
    [
        (((), "no driver"), ((), ""), ((), "no driver")),
        (((), "no driver"), (ONE, ""), (ONE, "")),
        ((ONE, "1 of 2 does not answer"), ((), ""), (ONE, "1 of 2 does not answer")),
        (((), "no driver"), ((), "amd-smi fails"), ((), "no driver; amd-smi fails")),
    ],
)
def test_gpus_of_both_vendors(monkeypatch, nvidia: Any, amd: Any, expected: Any) -> None:
    monkeypatch.setattr(inventory, "take_nvidia_gpus", lambda: nvidia)
    monkeypatch.setattr(inventory, "take_amd_gpus", lambda: amd)
    assert inventory.take_gpus() == expected
