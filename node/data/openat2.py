"""Resolves untrusted paths inside a folder, in the kernel.

openat2(2) with RESOLVE_IN_ROOT treats the folder as the root directory: `..` and absolute symbolic
links stay inside, in whatever order they are created. User space cannot do this without a race.
Python has no function for the call, so libc's `syscall` makes it.

Spec: specs/data.md#unpacking.
"""

import ctypes
import errno
import os
import struct
from typing import Final

from protocol.values.errors import SandboxUnavailable

SYS_OPENAT2: Final = 437
"""The same number on every architecture: the call is newer than the common table."""
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10
LIBC: Final = ctypes.CDLL(None, use_errno=True)


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open `path` as if the directory `root` were `/`; return a file descriptor.

    OSError as of open(2); SandboxUnavailable if the kernel (before 5.6) does not have the call.
    """
    return _open(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(root: int, path: str, flags: int) -> int:
    """Open a path below the directory `root` that leads over no link; return a file descriptor.

    Errors as of `open_in_root`; a link in the path is one of them.
    """
    return _open(root, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)


def _open(root: int, path: str, flags: int, resolve: int) -> int:
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)
    handle: int = LIBC.syscall(SYS_OPENAT2, root, os.fsencode(path or "."), how, len(how))
    if handle >= 0:
        return handle
    error = ctypes.get_errno()
    if error in {errno.ENOSYS, errno.EPERM}:
        # EPERM: older container engines forbid calls that they do not know.
        line = "the kernel does not offer openat2 (Linux 5.6 or newer): images cannot be unpacked"
        raise SandboxUnavailable(line)
    raise OSError(error, os.strerror(error), path)


def sync_file_system(folder: int) -> None:
    """Sync the whole file system of this open directory."""
    if LIBC.syncfs(folder) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
