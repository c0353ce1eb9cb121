"""Connects to the daemon's socket, and waits if the daemon is starting.

`mutirao up &` is often followed at once by another command, but the daemon answers only after some
seconds. So `up` first takes a shared flock on the data folder, the claim, for as long as its
process lives, and later the daemon's lock inside. Both are read from /proc/locks: trying a lock
would take it, for a moment, from the daemon.
Spec: specs/operation.md#starting.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

START_S: Final = 15.0
"""How long a daemon may take from its claim to its first answer."""
SECOND_LOOK_S: Final = 0.3
"""How long the claim may be missing, because a daemon was started just now."""
POLL_S: Final = 0.05
LOCKS: Final = Path("/proc/locks")
LOCK_NAME: Final = "lock"


def connect(path: Path, lock: Path, timeout_s: float | None) -> socket.socket:
    """Return a connected socket; raise the last attempt's OSError if no daemon answers."""
    begin = seen = time.monotonic()
    while True:
        try:
            return _connected(path, timeout_s)
        except (FileNotFoundError, ConnectionRefusedError):
            now = time.monotonic()
            seen = now if is_claimed(lock) else seen
            if now - seen > SECOND_LOOK_S or now - begin > START_S:
                raise
        time.sleep(POLL_S)


def is_claimed(lock: Path) -> bool:
    """Return whether a daemon runs or starts on the folder of this lock.

    False if /proc/locks is unavailable.
    """
    try:
        wanted = {str(path.stat().st_ino) for path in (lock, lock.parent) if path.exists()}
        held = LOCKS.read_text()
    except OSError:
        return False
    # Such as "2: FLOCK  ADVISORY  WRITE 801 fe:00:2156137 0 EOF". The device is not compared,
    # because some file systems show a different one in their files.
    words = (line.split() for line in held.splitlines() if "FLOCK" in line and "->" not in line)
    return any(word.rpartition(":")[2] in wanted for line in words for word in line if ":" in word)


@contextmanager
def claiming(folder: Path) -> Iterator[None]:
    """Claim a data folder, so commands wait for the daemon that starts there."""
    import fcntl

    sign = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # Not every file system can: then commands do not wait.
            fcntl.flock(sign, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(sign)


def _connected(path: Path, timeout_s: float | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        sock.connect(os.fspath(path))
    except OSError:
        sock.close()
        raise
    return sock
