"""The folders of a job's disk; whole containers with one are in test_embedded.py.

Spec: specs/disk.md#kinds.
"""

import os
import stat

import pytest

from node.sandbox import job_disks
from node.sandbox.runner import job_disk, mounts
from node.sandbox.runner.container import StartFailed
from node.sandbox.runner.records import Fields
from tests.node.sandbox.runner.conftest import in_namespace


def test_the_three_folders_are_the_jobs(tmp_path):
    user = 7777 if os.geteuid() == 0 else None
    for _ in range(2):
        job_disk.make(str(tmp_path), job_disk.BY_WATCH, user)
    found = {path.name: path.stat() for path in (tmp_path / "disk").iterdir()}
    assert found.keys() == {"out", "tmp", "scratch"}
    assert {stat.S_IMODE(each.st_mode) for each in found.values()} == {0o1777}
    assert {each.st_uid for each in found.values()} == {user or os.getuid()}


def test_a_disk_in_memory_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for fields in (Fields([]), Fields([("disk", "memory")])):
        job_disk.open_disk(fields)
        assert not job_disk.is_on_disk(fields)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_cannot_be_made_stops_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").write_text("in the way")
    with pytest.raises(StartFailed, match="the job's disk cannot be made: File exists"):
        job_disk.open_disk(Fields([("disk", "folder")]))


def test_another_process_unmounts_when_the_runner_is_gone(tmp_path):
    """The runner's exit does not wait for it; it is over when the image's room is free again."""

    def act():
        job_disks.JobDisks(tmp_path).make_image(tmp_path, 4)
        reader, writer = os.pipe()
        runner = os.fork()
        if runner == 0:
            try:
                os.chdir(tmp_path)
                mounts.own_namespace()
                job_disk.make(".", job_disk.BY_IMAGE, None)
                job_disk.leave()
            finally:
                os._exit(0)
        os.close(writer)
        assert os.waitpid(runner, 0)[1] == 0
        assert os.read(reader, 1) == b""  # The other one ends as well.
        os.close(reader)

    in_namespace(act)
