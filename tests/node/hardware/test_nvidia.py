"""What the driver says becomes a record; what it does not say becomes None, never an error.

The real pynvml runs against a stand-in library, in a process of its own, for a library is loaded
once and for good.
Spec: specs/capability.md#gpus.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml
import pytest

from node.hardware.gpu import Gpu, GpuReading, MigDevice
from node.hardware.nvidia import take_nvidia_gpus

ROOT = Path(__file__).parents[3]
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
FIRST = Gpu(
    uuid="GPU-SIMULATED-1",
    name="SIMULATED GPU 1",
    gpu_class="simulated-1",
    vram_mib=80 * 1024,
    driver="SIMULATED-1",
    cuda=(12, 8),
    compute=(9, 0),
    pci="00000000:01:00.0",
    minor=0,
    cores=16896,
    power_limit_w=700,
    memory_clock_mhz=2619,
    memory_bus_bits=None,
    ecc=True,
    mig_enabled=False,
    mig_devices=(),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    if COMPILER is None:
        pytest.skip("no C compiler to build the stand-in for the NVIDIA library")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("stand_in_nvml.c")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", target, source], check=True)
    return folder


def gpus_of(library: Path, fleet: str) -> tuple[tuple[Gpu, ...], str]:
    return answer_of(library, fleet, "print(repr(nvidia.take_nvidia_gpus()))")


def answer_of(library: Path, fleet: str, code: str, **variables: str) -> Any:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "STAND_IN_NVML": fleet}
    command = [sys.executable, "-c", f"from node.hardware import nvidia\n{code}"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment | variables, capture_output=True, text=True, check=True
    )
    names = {"Gpu": Gpu, "MigDevice": MigDevice, "GpuReading": GpuReading}
    return eval(result.stdout, names)  # Our own repr.


@pytest.mark.slow
def test_all_that_the_driver_says_is_recorded(library: Path) -> None:
    assert gpus_of(library, "1") == ((FIRST,), "")


@pytest.mark.slow
def test_card_that_supports_little_has_its_name_and_none(library: Path) -> None:
    (_, second), why = gpus_of(library, "2")
    assert why == ""
    assert second == Gpu(
        uuid="GPU-SIMULATED-2",
        name="SIMULATED GPU 2",
        gpu_class="simulated-2",
        driver="SIMULATED-1",
        cuda=(12, 8),
        mig_enabled=False,
        mig_devices=(),
        **dict.fromkeys(("vram_mib", "compute", "pci", "minor", "cores", "power_limit_w")),
        **dict.fromkeys(("memory_clock_mhz", "memory_bus_bits", "ecc")),
    )


@pytest.mark.slow
def test_parts_are_listed_and_a_lost_gpu_is_told(library: Path) -> None:
    gpus, why = gpus_of(library, "4")
    assert [gpu.uuid for gpu in gpus] == [f"GPU-SIMULATED-{n}" for n in (1, 2, 3)]
    assert gpus[2].mig_enabled
    assert gpus[2].mig_devices == tuple(
        MigDevice(
            f"MIG-SIMULATED-{n}",
            "SIMULATED GPU 3 MIG 1g.10gb",
            "simulated-3-mig-1g-10gb",
            10 * 1024,
        )
        for n in (100, 101)
    )
    assert why == "1 of 4 NVIDIA GPUs do not answer: see nvidia-smi"


@pytest.mark.slow
@pytest.mark.parametrize("fleet,expected", [("0", "finds no GPU"), ("nodriver", "not loaded")])
def test_absence_is_explained(library: Path, fleet: str, expected: str) -> None:
    gpus, why = gpus_of(library, fleet)
    assert gpus == ()
    assert expected in why


READ_THRICE = """
gpus, _ = nvidia.take_nvidia_gpus()
reader, found = nvidia.NvidiaReader(), []
for words in ("91 0", "55 2", "lost"):
    with open(STATE, "w") as file:
        file.write(words)
    found.append(reader.read(gpus))
reader.close()
print(repr(found))
"""


@pytest.mark.slow
def test_what_gpus_report_while_they_work(library: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    code = f"STATE = {str(state)!r}\n{READ_THRICE}"
    first, second, third = answer_of(library, "3", code, STAND_IN_NVML_STATE=str(state))
    state_of = [(r.temperature_c, r.ecc_errors, bool(r.lost)) for r in (first[0], second[0])]
    assert state_of == [(91, 0, False), (55, 2, False)]
    assert first[0] == GpuReading("GPU-SIMULATED-1", 87, 2048, 91, 89, 312, 0, heat_brake=True)
    assert not second[0].heat_brake
    assert first[1] == GpuReading("GPU-SIMULATED-2")  # It knows only its name.
    parts = [(reading.uuid, reading.memory_used_mib, reading.lost) for reading in first[2:]]
    assert parts == [("MIG-SIMULATED-100", 2048, ""), ("MIG-SIMULATED-101", 2048, "")]
    assert "does not answer (GPU is lost)" in third[0].lost
    assert not any(reading.lost for reading in third[1:])  # A lost GPU does not hide the others.


@pytest.mark.slow
def test_where_the_parts_of_a_gpu_lie(library: Path) -> None:
    places = "nvidia.take_mig_places().items()"
    code = f"print({{u: (p.minor, p.gi, p.ci) for u, p in {places}}})"
    assert answer_of(library, "3", code) == {
        "MIG-SIMULATED-100": (2, 7, 0), "MIG-SIMULATED-101": (2, 8, 0),
    }  # fmt: skip


@pytest.mark.slow
def test_a_driver_that_is_gone_takes_all_gpus_with_it(library: Path) -> None:
    code = """
import os
gpus, _ = nvidia.take_nvidia_gpus()
os.putenv("STAND_IN_NVML", "nodriver")
reader = nvidia.NvidiaReader()
print(repr(reader.read(gpus)))
"""
    readings = answer_of(library, "3", code)
    assert {reading.lost for reading in readings} == {
        "the NVIDIA driver is installed but not loaded"
    }
    assert [reading.uuid for reading in readings][2:] == ["MIG-SIMULATED-100", "MIG-SIMULATED-101"]


@pytest.mark.parametrize(
    "code,expected",
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver library"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "restart the machine"),
        (pynvml.NVML_ERROR_UNKNOWN, "does not answer"),
    ],
)
def test_driver_that_does_not_start_is_no_error(monkeypatch, code: int, expected: str) -> None:
    def fails() -> None:
        raise pynvml.NVMLError(code)

    monkeypatch.setattr(pynvml, "nvmlInit", fails)
    gpus, why = take_nvidia_gpus()
    assert gpus == ()
    assert expected in why


def test_bandwidth_follows_from_clock_and_bus() -> None:
    assert replace(FIRST, memory_bus_bits=5120).memory_gb_s == 3352  # An H100's data sheet.
    assert FIRST.memory_gb_s is None


@pytest.mark.gpu
def test_real_gpu() -> None:
    gpus, why = take_nvidia_gpus()
    if not gpus:
        pytest.skip(why)
    assert all(gpu.uuid.startswith("GPU-") for gpu in gpus)
    assert all(gpu.vram_mib is None or gpu.vram_mib > 512 for gpu in gpus)
    assert all(gpu.driver and gpu.cuda and gpu.compute for gpu in gpus)
