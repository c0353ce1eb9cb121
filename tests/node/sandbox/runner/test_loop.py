"""File systems in files, by the kernel's own loop devices.

Spec: specs/disk.md#image.
"""

import errno
import os
from pathlib import Path

import pytest

from node.sandbox import job_disks
from node.sandbox.runner import job_disk, loop, mounts
from tests.node.sandbox.runner.conftest import in_namespace


def test_a_file_that_is_no_file_system_is_refused_and_its_device_is_free(tmp_path):
    def act():
        (tmp_path / "image").write_bytes(bytes(1 << 20))
        with pytest.raises(OSError, match="Invalid argument"):
            loop.mount_image(str(tmp_path / "image"), str(tmp_path))
        assert (tmp_path / "image").exists()

    in_namespace(act)


def test_a_device_that_another_program_took_is_not_ours(tmp_path, monkeypatch):
    """Between the question for a free number and its use."""
    busy = iter([True, False])
    configure = loop._configure

    def late(device, file):
        if next(busy):
            raise OSError(errno.EBUSY, "taken")
        configure(device, file)

    def act():
        monkeypatch.setattr(loop, "_configure", late)
        (tmp_path / job_disk.DISK).mkdir()
        job_disks.JobDisks(tmp_path).make_image(tmp_path, 4)
        loop.mount_image(str(tmp_path / job_disk.IMAGE), str(tmp_path / job_disk.DISK))
        assert (tmp_path / job_disk.DISK).is_mount()
        assert not (tmp_path / job_disk.IMAGE).exists()
        flags = os.statvfs(tmp_path / job_disk.DISK).f_flag
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV
        loop.use_direct_io(str(tmp_path / job_disk.DISK))
        (tmp_path / job_disk.DISK / "file").write_text("x")
        assert (tmp_path / job_disk.DISK / "file").read_text() == "x"
        name = f"loop{os.minor((tmp_path / job_disk.DISK).stat().st_dev)}"
        assert Path(f"/sys/block/{name}/loop/dio").read_text() in {"1\n", "0\n"}
        mounts.unmount(str(tmp_path / job_disk.DISK))

    in_namespace(act)


def test_no_free_device_is_an_error(tmp_path, monkeypatch):
    def never(_device, _file):
        raise OSError(errno.EBUSY, "taken")

    def act():
        monkeypatch.setattr(loop, "_configure", never)
        (tmp_path / "image").write_bytes(bytes(4096))
        with pytest.raises(OSError, match="no loop device is free"):
            loop.mount_image(str(tmp_path / "image"), str(tmp_path))

    in_namespace(act)
