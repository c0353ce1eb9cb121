"""The lock of a run folder's runner: a POSIX record lock, which ends with its process.

Such a lock can be queried without taking it, and the kernel names its holder: no process id in a
file can be stale, and no two runners start one container.

Spec: specs/sandbox.md#run-folder.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH110

import errno
import fcntl
import os
import time

from node.sandbox.runner.records import RESULT, STATE

LAYOUT = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, process.
POLL_SECONDS = 0.005


def take(path: str) -> bool:
    """Lock the file until this process ends; False if another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        if fault.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def holder(path: str) -> int | None:
    """Return the process that holds the lock, None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    import struct  # noqa: PLC0415 - only the daemon asks; it takes a runner a millisecond.

    try:
        query = struct.pack(LAYOUT, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = struct.unpack(LAYOUT, fcntl.fcntl(descriptor, fcntl.F_GETLK, query))
    finally:
        os.close(descriptor)
    return None if answer[0] == fcntl.F_UNLCK else answer[4]


def await_state(seconds: float) -> None:
    """Return when the runner that has the lock says that its container runs, or ran."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.path.exists(STATE) or os.path.exists(RESULT):
            return
        time.sleep(POLL_SECONDS)
