"""Watches a job's disk: that it holds no more than it may, and that ours does not fill up.

A disk that is a file system of its own cannot grow beyond its size. Any other is added up, with the
files that have no name any more and are still open. What a job writes between two checks is beyond
its limit: the capability record calls this limit soft.

Spec: specs/disk.md#folder.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH101

import os
import stat
import time

from node.sandbox.runner import job_disk, loop
from node.sandbox.runner.container import Container
from node.sandbox.runner.records import Fields

BLOCK = 512
"""The unit of st_blocks."""
FILE_BYTES = 4096
"""What a file counts at least: its inode and name take room, too."""
RESERVE_BYTES = 256 << 20
RESERVE_PERCENT = 2
DEPTH_MAX = 128
"""Folders below each other; a job that makes more hides what is in them."""
TOO_DEEP = 1 << 60
OPEN = 0o700
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DIRECT_S = 0.2
"""A container that ends before is not worth a change of its disk, nor a check."""
PACE = 1
"""A check that takes long is followed by a pause so many times as long."""
SIZE_LINE = (
    "the job needed more than its {} MiB of disk (/out, /tmp and /scratch), or made more than "
    f"{DEPTH_MAX} folders below each other; ask for more"
)
FULL_LINE = "the provider's disk is full"
FULL_BLOCKS = 4
FULL_NOTE = "the disk of {} MiB (/out, /tmp and /scratch) is full; ask for more"


class DiskWatch:
    """The disk of the container whose run folder is the current folder."""

    __slots__ = ("direct", "kind", "limit", "next_s", "used")

    def __init__(self, fields: Fields) -> None:
        self.kind = fields.one("disk") or job_disk.IN_MEMORY
        self.limit = fields.number("disk_mib") << 20
        self.used = 0
        self.next_s = time.monotonic() + DIRECT_S
        self.direct = self.kind != job_disk.BY_IMAGE

    def excess(self, container: Container) -> tuple[str, str] | None:
        """Return (reason, detail) if the container broke its limit, or filled our disk."""
        begun_s = time.monotonic()
        if self.kind == job_disk.IN_MEMORY or begun_s < self.next_s:
            return None
        if not self.direct:
            loop.use_direct_io(job_disk.DISK)
            self.direct = True
        before, self.used = self.used, self._bytes(container)
        now_s = time.monotonic()
        self.next_s = now_s + PACE * (now_s - begun_s)
        if self.kind == job_disk.BY_WATCH and self.used > self.limit:
            return ("disk", SIZE_LINE.format(self.limit >> 20))
        if self.used > before and is_short():
            return ("failed", FULL_LINE)
        return None

    def note(self) -> str:
        """Return a line on a job that failed, if its own disk is full; else ""."""
        if self.kind != job_disk.BY_IMAGE:
            return ""
        room = os.statvfs(job_disk.DISK)
        is_full = room.f_bavail < FULL_BLOCKS or room.f_favail == 0
        return FULL_NOTE.format(self.limit >> 20) if is_full else ""

    def _bytes(self, container: Container) -> int:
        if self.kind == job_disk.BY_IMAGE:
            room = os.statvfs(job_disk.DISK)
            return (room.f_blocks - room.f_bfree) * room.f_frsize
        seen: set[int] = set()
        named = _bytes_below(os.open(job_disk.DISK, FOLDER), seen)
        device = os.stat(job_disk.DISK).st_dev  # noqa: PTH116
        return named + sum(
            _bytes_without_name(process, device, seen) for process in container.members()
        )


def is_short() -> bool:
    """Return whether the disk that holds the run folder is nearly full."""
    room = os.statvfs(".")
    reserve = min(RESERVE_BYTES // room.f_frsize, room.f_blocks * RESERVE_PERCENT // 100)
    return room.f_bavail < reserve


def _bytes_below(folder: int, seen: set[int], depth: int = 0) -> int:
    """Add up a folder and all below it; each inode counts once. What is gone meanwhile is 0.

    By descriptors, since a path may be longer than the kernel takes; closes the folder.
    """
    try:
        with os.scandir(folder) as entries:
            return sum(_bytes_of(entry, folder, seen, depth + 1) for entry in entries)
    finally:
        os.close(folder)


def _bytes_of(entry: "os.DirEntry[str]", folder: int, seen: set[int], depth: int) -> int:
    """Add up one thing in an open folder."""
    try:
        found = entry.stat(follow_symlinks=False)
        size = _counted(found, seen)
        if stat.S_ISDIR(found.st_mode):
            size += _bytes_in(entry.name, folder, seen, depth)
    except OSError:  # It is gone.
        return 0
    return size


def _bytes_in(name: str, parent: int, seen: set[int], depth: int) -> int:
    """Add up a folder of a folder, even if the job made it unreadable."""
    if depth > DEPTH_MAX:
        return TOO_DEEP
    try:
        folder = os.open(name, FOLDER, dir_fd=parent)
    except PermissionError:
        folder = _opened_again(name, parent)
    except OSError:  # It was replaced or removed: the next check sees what is there then.
        return 0
    if folder < 0:
        return 0
    if os.geteuid() != 0 and os.fstat(folder).st_mode & OPEN != OPEN:  # Else no entry has a size.
        os.fchmod(folder, OPEN)
    return _bytes_below(folder, seen, depth)


def _opened_again(name: str, parent: int) -> int:
    """Return a descriptor of a folder that the job closed to itself, -1 if it is gone."""
    try:
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return -1
    try:
        os.chmod(f"/proc/self/fd/{handle}", OPEN)
        return os.open(name, FOLDER, dir_fd=parent)
    except OSError:
        return -1
    finally:
        os.close(handle)


def _bytes_without_name(process: int, device: int, seen: set[int]) -> int:
    """Add up the removed files of a device that a process holds open."""
    place, size = f"/proc/{process}/fd", 0
    try:
        numbers = os.listdir(place)  # noqa: PTH208
    except OSError:
        return 0
    for number in numbers:
        try:
            found = os.stat(f"{place}/{number}")  # noqa: PTH116
        except OSError:
            continue
        if found.st_dev == device and found.st_nlink == 0 and stat.S_ISREG(found.st_mode):
            size += _counted(found, seen)
    return size


def _counted(found: os.stat_result, seen: set[int]) -> int:
    """Return what an inode takes, 0 if it was counted before."""
    if found.st_ino in seen:
        return 0
    seen.add(found.st_ino)
    return max(FILE_BYTES, found.st_blocks * BLOCK)
