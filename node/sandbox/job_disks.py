"""The daemon's part of a job's disk: which kind this machine can make, and the images.

A file system is made once for each size: an image is a copy of the few blocks that are not empty.

Spec: specs/disk.md#kinds.
"""

import errno
import os
import secrets
import shutil
import subprocess
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from node.data.disk import full_disk_as_storage_full, is_short
from node.sandbox.policy import ContainerLimits
from node.sandbox.runner import job_disk, loop, mounts
from protocol.values.errors import SandboxUnavailable, StorageFull

MAKER: Final = "mkfs.ext4"
PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
OPTIONS: Final = (
    "-q", "-F", "-b", "4096", "-i", "8192", "-m", "0", "-O", "^has_journal,^resize_inode",
    "-E", "nodiscard,lazy_itable_init=1",
)  # fmt: skip
MAKER_SECONDS: Final = 60
TEMPLATES_MAX: Final = 8
TRIAL_MIB: Final = 4
_TRIED: Final[dict[int, bool]] = {}
"""By the device that holds the run folders."""


class JobDisks:
    """Makes the disks of the containers whose run folders lie below one folder."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._templates: dict[int, int] = {}
        """The descriptor of a file system's image for each size; the oldest is first."""
        self._lock = threading.Lock()

    def is_hard(self) -> bool:
        """Return whether the kernel can bound a job's disk here."""
        return can_mount(self._runs)

    def kind_for(self, limits: ContainerLimits) -> str:
        """Return what bounds the disk of a container: the field `disk` of its launch record."""
        if limits.disk_in_memory:
            return job_disk.IN_MEMORY
        return job_disk.BY_IMAGE if self.is_hard() else job_disk.BY_WATCH

    def prepare(self, folder: Path, limits: ContainerLimits) -> str:
        """Return the kind, once the run folder has what the disk is made of; it blocks.

        StorageFull if it would leave too little room on our own disk.
        """
        kind = self.kind_for(limits)
        if kind == job_disk.IN_MEMORY:
            return kind
        if is_short(self._runs, limits.disk_mib << 20):
            raise StorageFull(f"there is no room for a job's disk of {limits.disk_mib} MiB")
        if kind == job_disk.BY_IMAGE:
            self.make_image(folder, limits.disk_mib)
        return kind

    def make_image(self, folder: Path, size_mib: int) -> None:
        """Make the image of a file system in a run folder."""
        with full_disk_as_storage_full(self._runs):
            _copy(self._template(size_mib), folder / job_disk.IMAGE)

    def close(self) -> None:
        """Forget the templates."""
        with self._lock:
            for template in self._templates.values():
                os.close(template)
            self._templates.clear()

    def _template(self, size_mib: int) -> int:
        with self._lock:
            found = self._templates.pop(size_mib, None)
            if found is None:
                found = _formatted(self._runs, size_mib)
            self._templates[size_mib] = found
            while len(self._templates) > TEMPLATES_MAX:
                os.close(self._templates.pop(next(iter(self._templates))))
            return os.dup(found)


def can_mount(runs: Path) -> bool:
    """Return whether a file system in a file can be mounted here; found by doing it, once."""
    device = runs.stat().st_dev
    if device not in _TRIED:
        _TRIED[device] = _trial(runs)
    return _TRIED[device]


def _trial(runs: Path) -> bool:
    if os.geteuid() != 0 or shutil.which(MAKER, path=PATH) is None:
        return False
    found: list[bool] = []
    trial = threading.Thread(target=lambda: found.append(_try(runs)))
    trial.start()
    trial.join()
    return found == [True]


def _try(runs: Path) -> bool:
    """Mount one, in a namespace that ends with this thread."""
    place = runs / f"disk-{secrets.token_hex(4)}"
    place.mkdir(mode=0o700)
    try:
        mounts.own_namespace()
        _copy(_formatted(runs, TRIAL_MIB), place / job_disk.IMAGE)
        (place / job_disk.DISK).mkdir()
        loop.mount_image(str(place / job_disk.IMAGE), str(place / job_disk.DISK))
        mounts.unmount(str(place / job_disk.DISK))
    except (OSError, SandboxUnavailable):
        return False
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return True


def _formatted(runs: Path, size_mib: int) -> int:
    """Return the descriptor of a nameless image with an empty file system.

    It is larger than its size, by what its own tables take.
    """
    with TemporaryDirectory(prefix="disk-", dir=runs) as place:  # As a run folder, it may be left.
        image = f"{place}/{job_disk.IMAGE}"
        file = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(file, (size_mib << 20) * 17 // 16 + (2 << 20))
            _run(MAKER, *OPTIONS, image)
        except (OSError, SandboxUnavailable):
            os.close(file)
            raise
    return file


def _copy(template: int, image: Path) -> None:
    """Make an image: a copy of the blocks that hold something. Closes the template."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    target = os.open(image, flags, 0o600)
    try:
        size = os.fstat(template).st_size
        os.truncate(target, size)
        for begin, end in _extents(template, size):
            os.pwrite(target, os.pread(template, end - begin, begin), begin)
    finally:
        os.close(target)
        os.close(template)


def _extents(file: int, size: int) -> list[tuple[int, int]]:
    """Return where a sparse file has data."""
    found, end = [], 0
    while end < size:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
        except OSError as fault:
            if fault.errno == errno.ENXIO:  # There is no more.
                break
            raise
        end = os.lseek(file, begin, os.SEEK_HOLE)
        found.append((begin, end))
    return found


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              timeout=MAKER_SECONDS, env={"PATH": PATH})  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SandboxUnavailable(f"{command[0]} took too long") from None
    if done.returncode != 0:
        why = " ".join(done.stderr.split())[:300]
        raise SandboxUnavailable(f"{command[0]} failed: {why}")
