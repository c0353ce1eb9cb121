"""What bounds a job's disk here, and the images of file systems.

Spec: specs/disk.md#kinds.
"""

import os
from dataclasses import replace

import pytest

from node.sandbox import job_disks
from node.sandbox.job_disks import JobDisks
from node.sandbox.policy import limits_of
from node.sandbox.runner import job_disk, loop, mounts
from protocol.values.errors import SandboxUnavailable, StorageFull
from tests.node.sandbox.conftest import launch_of, workload
from tests.node.sandbox.runner.conftest import in_namespace

LIMITS = limits_of(launch_of(workload("x")))


def test_a_file_system_has_the_room_that_was_promised_and_little_more(tmp_path):
    disks = JobDisks(tmp_path)
    place = tmp_path / job_disk.DISK
    place.mkdir()

    def act():
        for size in (1, 15, 100, 1008, 1008, 50_000):
            disks.make_image(tmp_path, size)
            assert (tmp_path / job_disk.IMAGE).stat().st_blocks << 9 < 4 << 20
            loop.mount_image(str(tmp_path / job_disk.IMAGE), str(place))
            room = os.statvfs(place)
            mounts.unmount(str(place))
            assert size << 20 <= room.f_bavail * room.f_frsize <= (size << 20) * 1.1 + (2 << 20)
            assert room.f_favail >= size << 4
        disks.close()
        assert [path.name for path in tmp_path.iterdir()] == [job_disk.DISK]

    in_namespace(act)


def test_the_kernel_bounds_it_if_it_can_and_memory_if_the_job_says_so(tmp_path):
    disks = JobDisks(tmp_path)
    hard = disks.is_hard()
    assert disks.kind_for(LIMITS) == (job_disk.BY_IMAGE if hard else job_disk.BY_WATCH)
    assert disks.kind_for(replace(LIMITS, disk_in_memory=True)) == job_disk.IN_MEMORY
    assert disks.prepare(tmp_path, LIMITS) == disks.kind_for(LIMITS)
    assert (tmp_path / job_disk.IMAGE).exists() == hard
    disks.close()


def test_without_the_program_that_formats_there_is_a_watcher(tmp_path, monkeypatch):
    monkeypatch.setattr(job_disks, "_TRIED", {})
    monkeypatch.setattr(job_disks, "PATH", "")
    assert not job_disks.can_mount(tmp_path)


def test_a_disk_that_would_fill_ours_is_refused(tmp_path):
    huge = replace(LIMITS, disk_mib=2**29)
    with pytest.raises(StorageFull, match="no room for a job's disk of 536870912 MiB"):
        JobDisks(tmp_path).prepare(tmp_path, huge)


def test_a_failure_to_format_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(job_disks, "MAKER", "false")
    with pytest.raises(SandboxUnavailable, match="false failed"):
        JobDisks(tmp_path).make_image(tmp_path, 4)
    assert not list(tmp_path.iterdir())
