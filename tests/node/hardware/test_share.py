"""The owner's word counts, and where he said nothing a careful default.

Spec: specs/configuration.md#provider.
"""

from dataclasses import replace

import pytest

from node.config import ConfigError, ProviderSettings
from node.hardware.gpu import Gpu, MigDevice
from node.hardware.inventory import Inventory
from node.hardware.share import NOTHING, Share, share_of

ONE, TWO = (
    Gpu(
        uuid=uuid,
        name="NVIDIA A100-SXM4-40GB",
        gpu_class="a100-40gb",
        vram_mib=40 * 1024,
        driver="570.0",
        cuda=(12, 8),
        compute=(8, 0),
        pci=None,
        minor=0,
        cores=None,
        power_limit_w=None,
        memory_clock_mhz=None,
        memory_bus_bits=None,
        ecc=None,
        mig_enabled=bool(parts),
        mig_devices=parts,
    )
    for uuid, parts in (
        ("GPU-1", ()),
        (
            "GPU-2",
            tuple(MigDevice(f"MIG-{n}", "A100 MIG 1g.5gb", "a100-1g", 5_000) for n in (1, 2)),
        ),
    )
)
PART_OF_TWO = replace(TWO, mig_devices=TWO.mig_devices[:1])
HERE = Inventory(cpus=8, memory_mib=10_000, disk_mib=1_000, gpus=(ONE, TWO), gpus_why="")


@pytest.mark.parametrize(
    "provider,expected",
    [
        (ProviderSettings(), Share(8, 8_000, 500, (ONE, TWO))),
        (ProviderSettings(enabled=False), NOTHING),
        (
            ProviderSettings(cpus=2, memory_mib=9_000, disk_mib=900, gpus=("GPU-1",)),
            Share(2, 9_000, 900, (ONE,)),
        ),
        (
            ProviderSettings(cpus=99, memory_mib=99_000, disk_mib=99_000, gpus=("MIG-1",)),
            Share(8, 10_000, 1_000, (PART_OF_TWO,)),
        ),
        (ProviderSettings(gpus=("GPU-2",)), Share(8, 8_000, 500, (TWO,))),
        (ProviderSettings(gpus=()), Share(8, 8_000, 500, ())),
    ],
)
def test_share(provider: ProviderSettings, expected: Share) -> None:
    assert share_of(HERE, provider) == expected


def test_great_disk_is_not_lent_by_half() -> None:
    great = Inventory(cpus=1, memory_mib=1, disk_mib=10**7, gpus=(), gpus_why="none")
    assert share_of(great, ProviderSettings()).disk_mib == 100 * 1024


def test_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"provider\.gpus: GPU-9 is not in this machine"):
        share_of(HERE, ProviderSettings(gpus=("GPU-1", "GPU-9")))
