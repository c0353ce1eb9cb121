"""NVIDIA devices, on a machine made of files.

Spec: specs/gpus.md#assignment.
"""

import shutil
import sys
from pathlib import Path

import pytest

from node.data.elf import closure, library_folders, soname_of
from node.hardware.nvidia import MigPlace
from node.sandbox import nvidia
from protocol.values.errors import SandboxUnavailable
from tests.node.sandbox.cdi_spec import DRIVER, write_spec

NEEDED = closure(Path(sys.executable).resolve(), library_folders())
LIBRARY = next(path for name, path in sorted(NEEDED.items()) if name.startswith("libc.so"))

CACHE = """2 libs found in cache
\tlibcuda.so.1 (libc6,x86-64) => {place}/libcuda.so.550.1
\tlibcuda.so (libc6,x86-64) => {place}/libcuda.so.550.1
\tlibcuda.so.1 (libc6) => /usr/lib/i386/libcuda.so.1
\tlibz.so.1 (libc6,x86-64) => /usr/lib/libz.so.1
\tlibnvidia-ml.so.1 (libc6,AArch64) => {place}/libnvidia-ml.so.550.1
"""


@pytest.fixture
def root(tmp_path):
    for bus, uuid, minor in (("01", "GPU-a", 0), ("02", "GPU-b", 3)):
        folder = tmp_path / "proc/driver/nvidia/gpus" / f"0000:{bus}:00.0"
        folder.mkdir(parents=True)
        text = f"Model: \t\t NVIDIA H200\nGPU UUID:\t {uuid}\nDevice Minor: \t {minor}\nBlank\n"
        (folder / "information").write_text(text)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    return tmp_path


@pytest.fixture
def libraries(tmp_path):
    """A folder with the files of a driver: a library of this machine stands in for its own."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    for name in (f"libcuda.so.{DRIVER}", f"libnvidia-ml.so.{DRIVER}"):
        shutil.copy(LIBRARY, folder / name)
    for name in ("nvidia-smi", "nvoptix.bin"):
        (folder / name).write_text("a file\n")
    return folder


def test_only_the_devices_asked_for(root):
    extra = nvidia.extra_for(("GPU-b",), "/bin", root)
    assert extra.devices == ("/dev/nvidia3", "/dev/nvidiactl")
    assert dict(extra.env) == {"LD_LIBRARY_PATH": nvidia.INSIDE, "PATH": f"/bin:{nvidia.INSIDE}"}


@pytest.mark.skipif(not soname_of(LIBRARY), reason="this machine's C library has no name")
def test_cdi_says_what_a_container_needs(root, libraries):
    write_spec(root, libraries)
    extra = nvidia.extra_for(("GPU-b",), "/bin", root)
    assert extra.devices == ("/dev/nvidia3", "/dev/nvidia-uvm", "/dev/nvidiactl")
    found = {place.rpartition("/")[2]: file.name for file, place in extra.binds}
    assert found.pop(soname_of(LIBRARY)) == f"libnvidia-ml.so.{DRIVER}"
    own = {name: name for name in (f"libcuda.so.{DRIVER}", f"libnvidia-ml.so.{DRIVER}")}
    assert found == own | {"nvidia-smi": "nvidia-smi"}  # Other files have no place in an image.


def test_cdi_of_a_driver_that_is_gone_is_not_used(root, libraries):
    write_spec(root, libraries)
    (libraries / f"libcuda.so.{DRIVER}").unlink()
    extra = nvidia.extra_for(("GPU-b",), "/bin", root)
    assert extra.devices == ("/dev/nvidia3", "/dev/nvidiactl")


def test_a_part_of_a_gpu_comes_with_the_right_to_use_it(root, monkeypatch):
    monkeypatch.setattr(nvidia, "take_mig_places", lambda: {"MIG-1": MigPlace(3, 7, 0)})
    with pytest.raises(SandboxUnavailable, match="no right to use gpu3/gi7/access"):
        nvidia.extra_for(("MIG-1",), "/bin", root)
    caps = root / "proc/driver/nvidia-caps"
    caps.mkdir()
    lines = ("config 1", "gpu3/gi7/access 66", "gpu3/gi7/ci0/access 67", "gpu3/gi8/access 75")
    (caps / "mig-minors").write_text("\n".join(lines) + "\n")
    extra = nvidia.extra_for(("MIG-1",), "/bin", root)
    assert extra.devices == (
        "/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap67",
        "/dev/nvidiactl",
    )  # fmt: skip


def test_an_unknown_device_is_named(root):
    with pytest.raises(SandboxUnavailable, match="GPU-z"):
        nvidia.extra_for(("GPU-z",), "/bin", root)


def test_a_machine_without_the_driver_has_none(tmp_path):
    assert nvidia.minors_of(tmp_path) == {}


def test_libraries_go_by_the_names_that_programs_look_for(tmp_path):
    found = nvidia.libraries_in(CACHE.format(place=tmp_path))
    assert found == (
        ("libcuda.so", tmp_path / "libcuda.so.550.1"),
        ("libcuda.so.1", tmp_path / "libcuda.so.550.1"),
        ("libnvidia-ml.so.1", tmp_path / "libnvidia-ml.so.550.1"),
    )
