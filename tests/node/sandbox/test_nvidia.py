"""NVIDIA devices, on a machine made of files.

Spec: specs/sandbox.md#gpus.
"""

import pytest

from node.sandbox import nvidia
from protocol.values.errors import SandboxUnavailable

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


def test_only_the_devices_asked_for(root):
    extra = nvidia.extra_for(("GPU-b",), root)
    assert extra.devices == ("/dev/nvidia3", "/dev/nvidiactl")
    assert extra.env == (("LD_LIBRARY_PATH", nvidia.INSIDE),)


def test_an_unknown_device_is_named(root):
    with pytest.raises(SandboxUnavailable, match="GPU-z"):
        nvidia.extra_for(("GPU-z",), root)


def test_a_machine_without_the_driver_has_none(tmp_path):
    assert nvidia.minors_of(tmp_path) == {}


def test_libraries_go_by_the_names_that_programs_look_for(tmp_path):
    found = nvidia.libraries_in(CACHE.format(place=tmp_path))
    assert found == (
        ("libcuda.so", tmp_path / "libcuda.so.550.1"),
        ("libcuda.so.1", tmp_path / "libcuda.so.550.1"),
        ("libnvidia-ml.so.1", tmp_path / "libnvidia-ml.so.550.1"),
    )
