"""The node's identity and exclusivity: key file, data folder, lock.

The key file contains the 32 bytes of an Ed25519 seed. Anyone who reads it can act as this node,
with its receipts and debts; so the file is refused if others could have read it.
Spec: specs/identity.md#key-file.
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from node.config import ConfigError
from protocol.values.errors import DaemonUnavailable

SEED_SIZE: Final = 32
OTHERS: Final = 0o077
"""The permissions of group and others."""


class IdentityError(ConfigError):
    """The key file or the data folder is unsafe or invalid; only its owner can correct it."""

    code = "identity"


def load_or_create(path: Path) -> bytes:
    """Return the 32 bytes of the seed; create it on the first start. Never overwrites a file.

    Raises IdentityError if others have access to the file, or if it is a link or has a wrong size.
    """
    with _told(path):
        while (seed := _load(path)) is None:
            _create(path)
        return seed


def private_dir(path: Path) -> Path:
    """Return the folder, created if missing; IdentityError if others own it or may enter it."""
    with _told(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(path, path.stat(), "chmod 700")
    return path


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock file; DaemonUnavailable at once if another process holds it.

    The lock ends with the process; the file stays.
    """
    with _told(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(lock, path)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(lock)


def _lock(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
        raise DaemonUnavailable(
            f"another daemon (pid {holder}) uses {path.parent}:"
            " end it, or choose another folder with data_dir"
        ) from None


def _load(path: Path) -> bytes | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(file)
        _require_private(path, status, "chmod 600")
        seed = os.read(file, SEED_SIZE + 1) if stat.S_ISREG(status.st_mode) else b""
    finally:
        os.close(file)
    if len(seed) != SEED_SIZE:
        raise IdentityError(
            f"{path} is not a key file (a file of {SEED_SIZE} bytes): put a copy of the right one"
            " in its place, or move it away to become a new peer"
        )
    return seed


def _create(path: Path) -> None:
    """Write a new seed; the file is never visible incomplete and never replaces another."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(secrets.token_bytes(SEED_SIZE))
            out.flush()
            os.fsync(file)
        with suppress(FileExistsError):  # Another process was faster: use its key.
            os.link(draft, path)
    finally:
        draft.unlink()
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _require_private(path: Path, status: os.stat_result, cure: str) -> None:
    if status.st_uid != os.geteuid():
        raise IdentityError(f"{path} belongs to another user (uid {status.st_uid}): chown it")
    if status.st_mode & OTHERS:
        raise IdentityError(f"other users have access to {path}: {cure} {path}")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn an error of the system into an IdentityError."""
    try:
        yield
    except OSError as error:
        raise IdentityError(f"cannot use {path}: {error.strerror}") from error
