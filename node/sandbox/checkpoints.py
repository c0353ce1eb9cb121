"""Copies a running job's checkpoint out of its /out.

The job replaces its checkpoint by a rename, so the inode at the path tells one checkpoint from the
next. A copy during which the inode changed is discarded. The job may do anything meanwhile: the
copy follows no link and takes nothing that the rules of outputs refuse.

Spec: specs/sandbox.md#checkpoints.
"""

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from node.data.disk import NO_SPACE
from node.sandbox.driver import checkpoint_path
from node.sandbox.runner import collect, lock, records
from protocol.values.errors import InvalidRequest, StorageFull

ATTEMPTS: Final = 3
REFUSED_TOLD_MAX: Final = 3


async def copy(folder: Path, path: str, mark: bytes) -> bytes:
    """Copy the checkpoint of a run folder's container, as `SandboxDriver.copy_checkpoint`."""
    return await trio.to_thread.run_sync(_copy, folder, path, mark)


def _copy(folder: Path, path: str, mark: bytes) -> bytes:
    launch = records.read(str(folder / records.LAUNCH))
    if launch is None:
        return b""
    with _out_of(folder) as out:
        for _ in range(ATTEMPTS):
            before = b"" if out is None else _mark_of(out, path)
            if out is None or before in {b"", mark}:
                return b""
            refused = _copy_once(out, path, checkpoint_path(folder), launch.number("output_mib"))
            if _mark_of(out, path) != before:
                continue
            if refused:
                told = "; ".join(refused[:REFUSED_TOLD_MAX])
                raise InvalidRequest(f"the checkpoint cannot be taken: {told}")
            return before
    return b""


def _copy_once(out: int, path: str, target: Path, size_mib: int) -> list[str]:
    """Replace the copy; return what was refused, and why."""
    shutil.rmtree(target, ignore_errors=True)
    try:
        return collect.collect_at(out, path, str(target), size_mib << 20).refused
    except OSError as fault:
        if fault.errno in NO_SPACE:
            raise StorageFull("there is no room for a checkpoint") from fault
        return [f"{path}: it changed while it was copied"]


@contextmanager
def _out_of(folder: Path) -> Iterator[int | None]:
    """Yield a descriptor of a running container's /out, which its runner holds; else None."""
    runner = lock.holder(str(folder / records.LOCK))
    state = records.read(str(folder / records.STATE))
    held = state.one("out") if state else ""  # Runners of older versions do not tell.
    descriptor = -1
    if runner is not None and held:
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            descriptor = os.open(f"/proc/{runner}/fd/{held}", flags)
        except OSError:  # The container has just ended.
            descriptor = -1
    try:
        is_runner = runner == lock.holder(str(folder / records.LOCK))  # Its id is not reused.
        yield descriptor if descriptor >= 0 and is_runner else None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _mark_of(out: int, path: str) -> bytes:
    """Return what tells a checkpoint from every other at its path; b"" if there is none."""
    try:
        parent = collect.open_parent(out, path)
        try:
            found = os.stat(path.rpartition("/")[2], dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)
    except OSError:  # It is missing, or the job keeps us from it.
        return b""
    times = (found.st_ctime_ns, found.st_mtime_ns)
    return struct.pack("<QQQQ", found.st_ino, *times, found.st_size)
