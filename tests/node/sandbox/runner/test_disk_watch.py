"""What counts as a job's disk. The end of jobs that write too much is in test_embedded.py.

Spec: specs/disk.md#folder.
"""

import os
from types import SimpleNamespace

import pytest

from node.sandbox.runner import disk_watch
from node.sandbox.runner.disk_watch import DiskWatch
from node.sandbox.runner.records import Fields

MIB = 1 << 20
NOBODY = SimpleNamespace(members=list)
SELF = SimpleNamespace(members=lambda: [os.getpid()])


@pytest.fixture
def disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk/out").mkdir(parents=True)
    return tmp_path / "disk"


def watch(kind="folder", mib=1):
    made = DiskWatch(Fields([("disk", kind), ("disk_mib", str(mib))]))
    made.next_s = 0.0
    return made


def verdict(mib=1):
    return watch(mib=mib).excess(NOBODY)


def test_files_count_by_the_room_that_they_take(disk):
    with (disk / "out/sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert verdict() is None
    (disk / "out/large").write_bytes(bytes(MIB))
    assert verdict()[0] == "disk"
    assert "its 1 MiB of disk" in verdict()[1]
    assert verdict(2) is None


def test_twice_named_counts_once_and_empty_files_count_too(disk):
    (disk / "out/one").write_bytes(bytes(600 << 10))
    (disk / "out/two").hardlink_to(disk / "out/one")
    assert verdict() is None
    for number in range(150):
        (disk / f"out/{number}").touch()
    assert verdict()[0] == "disk"


def test_removed_files_that_are_open_count(disk):
    one = watch(mib=1 << 20)
    one.excess(SELF)
    before = one.used
    with (disk / "out/gone").open("wb") as file:
        file.write(bytes(2 * MIB))
        file.flush()
        (disk / "out/gone").unlink()
        one.next_s = 0.0
        one.excess(SELF)
        assert one.used - before >= 2 * MIB
    one.next_s = 0.0
    one.excess(SELF)
    assert one.used == before


def test_what_is_too_deep_to_be_counted_is_too_much(disk, monkeypatch):
    monkeypatch.setattr(disk_watch, "DEPTH_MAX", 2)
    (disk / "out/a").mkdir()
    assert verdict() is None
    (disk / "out/a/b").mkdir()
    assert verdict()[0] == "disk"


def test_a_full_disk_of_ours_ends_only_a_job_that_fills_it(disk, monkeypatch):
    one = watch(mib=100)
    assert one.excess(NOBODY) is None
    monkeypatch.setattr(disk_watch, "RESERVE_BYTES", 1 << 60)
    monkeypatch.setattr(disk_watch, "RESERVE_PERCENT", 100)
    assert one.excess(NOBODY) is None
    (disk / "out/more").write_bytes(bytes(MIB))
    one.next_s = 0.0
    assert one.excess(NOBODY) == ("failed", "the provider's disk is full")


def test_a_disk_in_memory_is_not_watched(disk):
    (disk / "out/large").write_bytes(bytes(2 * MIB))
    assert watch("memory").excess(NOBODY) is None
    assert watch("memory").note() == watch("folder").note() == ""


def test_a_check_that_took_long_is_followed_by_a_pause(disk, monkeypatch):
    one = watch(mib=100)
    times = iter([10.0, 14.0, 15.0, 19.0, 19.5])
    one.next_s = 5.0
    monkeypatch.setattr(disk_watch.time, "monotonic", lambda: next(times))
    calls = []
    monkeypatch.setattr(DiskWatch, "_bytes", lambda *_: calls.append(1) or 0)
    for _ in range(3):
        one.excess(NOBODY)
    assert len(calls) == 2  # At 10 and at 19; at 15 it was too early.
