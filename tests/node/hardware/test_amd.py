"""What amd-smi says becomes a record, in each form that its versions answer in.

A script stands in for amd-smi: it prints JSON as published for real GPUs. That proves the reading
of it, and nothing of a real GPU.
Spec: specs/capability.md#amd.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from node.hardware import amd
from node.hardware.amd import AmdReader, take_amd_gpus, take_render_nodes
from node.hardware.gpu import GpuReading

UUIDS = ("76ff73a1-0000-1000-80a0-8c022586fed6", "00ff1586-0000-1000-8000-000000000000")
LIST = [
    {"gpu": index, "bdf": f"0000:{bus}:00.0", "uuid": uuid, "kfd_id": 42905, "node_id": index + 1,
     "partition_id": 0}
    for index, (bus, uuid) in enumerate(zip(("83", "C4"), UUIDS, strict=True))
]  # fmt: skip
STATIC = [
    {
        "gpu": 0,
        "asic": {"market_name": "AMD Instinct MI300X", "vendor_id": "0x1002"},
        "limit": {
            "max_power": {"value": 750, "unit": "W"}, "slowdown_edge_temperature": "N/A",
            "slowdown_hotspot_temperature": {"value": 100, "unit": "C"},
        },
        "driver": {"name": "amdgpu", "version": "6.10.5"},
        "vram": {"type": "HBM3", "size": {"value": 196592, "unit": "MB"}, "bit_width": 8192},
    },
    {
        "gpu": 1,
        "asic": {"market_name": "AMD Radeon Graphics"},
        "vram": {"type": "DDR5", "size": {"value": 512, "unit": "MB"}},
    },
]  # fmt: skip
METRIC = [
    {
        "gpu": 0,
        "usage": {"gfx_activity": {"value": 91, "unit": "%"}, "umc_activity": "N/A"},
        "power": {"socket_power": {"value": 612, "unit": "W"}},
        "temperature": {"edge": "N/A", "hotspot": {"value": 77, "unit": "C"}, "mem": 60},
        "ecc": {"total_correctable_count": 3, "total_uncorrectable_count": 0},
        "mem_usage": {"used_vram": {"value": 285, "unit": "MB"}},
    }
]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put an amd-smi on the PATH that prints given answers."""
    tool = tmp_path / "amd-smi"
    tool.write_text(f'#!/bin/sh\n[ -f "{tmp_path}/$1" ] || exit 2\nexec /bin/cat "{tmp_path}/$1"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(amd, "ROCM_TOOL", str(tmp_path / "none"))

    def say(**answers: Any) -> None:
        for command, answer in answers.items():
            text = answer if isinstance(answer, str) else json.dumps(answer)
            (tmp_path / command).write_text(text)

    return say


@pytest.mark.parametrize("form", [lambda found: found, lambda found: {"gpu_data": found}])
def test_what_amd_smi_says_is_recorded(says, form) -> None:
    says(list=form(LIST), static=form(STATIC), metric=form(METRIC))
    (gpu,), why = take_amd_gpus()  # The other one shares the processor's memory.
    assert why == ""
    assert (gpu.uuid, gpu.gpu_class, gpu.vram_mib) == (f"AMD-{UUIDS[0]}", "mi300x", 196_592)
    assert (gpu.vendor, gpu.driver, gpu.power_limit_w) == ("amd", "6.10.5", 750)
    assert (gpu.pci, gpu.cuda, gpu.memory_bus_bits) == ("0000:83:00.0", None, 8192)
    assert AmdReader().read([gpu]) == [GpuReading(gpu.uuid, 91, 285, 77, 100, 612, 0)]


def test_newer_limits_and_bytes(says) -> None:
    newer = {**STATIC[0], "vram": {"size": {"value": 34359738368, "unit": "B"}}}
    newer["limit"] = {"ppt0": {"max_power_limit": {"value": 300, "unit": "W"}}}
    says(list=LIST, static=[newer])
    (gpu,), _ = take_amd_gpus()
    assert (gpu.vram_mib, gpu.power_limit_w, gpu.slowdown_c) == (32_768, 300, None)


def test_a_gpu_that_is_gone_or_says_nothing(says) -> None:
    says(list=LIST, static=STATIC, metric=METRIC)
    (gpu,), _ = take_amd_gpus()
    says(metric=[{"gpu": 0, "usage": "N/A", "ecc": {"total_uncorrectable_count": "N/A"}}])
    assert AmdReader().read([gpu]) == [GpuReading(gpu.uuid, slowdown_c=100)]
    says(list=LIST[1:])
    assert "it is gone from the machine" in AmdReader().read([gpu])[0].lost


@pytest.mark.parametrize("answer", ["no JSON", '{"x": 1}', "7"])
def test_an_answer_that_cannot_be_read_is_told(says, answer: str) -> None:
    says(list=LIST, static=STATIC)
    (gpu,), _ = take_amd_gpus()
    says(list=answer)
    gpus, why = take_amd_gpus()
    assert (gpus, why.startswith("`amd-smi list` ")) == ((), True)
    assert AmdReader().read([gpu])[0].lost == why
    assert take_render_nodes() == {}


def test_a_machine_without_amd_smi_has_nothing_to_explain(says, tmp_path: Path) -> None:
    (tmp_path / "amd-smi").unlink()
    assert take_amd_gpus() == ((), "")
    AmdReader().close()


def test_a_driver_that_is_not_there_is_told(says) -> None:
    gpus, why = take_amd_gpus()
    assert gpus == ()
    assert "`amd-smi list` does not answer" in why


def test_the_device_node_of_each(says, tmp_path: Path) -> None:
    says(list=LIST)
    for bus, node in (("83", "renderD128"), ("c4", "renderD129")):
        (tmp_path / f"bus/pci/devices/0000:{bus}:00.0/drm/{node}").mkdir(parents=True)
    (tmp_path / "bus/pci/devices/0000:c4:00.0/drm/card1").mkdir()
    assert take_render_nodes(tmp_path) == {
        f"AMD-{UUIDS[0]}": "/dev/dri/renderD128", f"AMD-{UUIDS[1]}": "/dev/dri/renderD129",
    }  # fmt: skip
