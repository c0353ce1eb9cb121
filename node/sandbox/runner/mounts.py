"""Mounts by system call, and a mount namespace of our own.

Spec: specs/disk.md#image.
"""

import ctypes
import os

NEW_MOUNTS = 0x00020000
BIND, RECURSIVE, SLAVE = 0x1000, 0x4000, 0x80000
NO_SUID, NO_DEVICES, NO_ATIME = 0x2, 0x4, 0x400
DETACH = 2
SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True)


def own_namespace() -> None:
    """Enter a new mount namespace: what is mounted in it is seen nowhere else, and ends with it."""
    _check(LIBC.unshare(NEW_MOUNTS))
    mount("none", "/", flags=RECURSIVE | SLAVE)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount; OSError if the kernel refuses."""
    words = [os.fsencode(word) or None for word in (source, target, kind)]
    _check(LIBC.mount(*words, ctypes.c_ulong(flags), os.fsencode(options) or None))


def adopt_orphans() -> None:
    """Become the parent of our descendants whose own parent ends."""
    _check(LIBC.prctl(SUBREAPER, 1, 0, 0, 0))


def unmount(place: str) -> None:
    """Unmount; what is still in use ends with its last user."""
    _check(LIBC.umount2(os.fsencode(place), DETACH))


def _check(result: int) -> None:
    """Raise the OSError of a call that failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
