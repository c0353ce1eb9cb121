"""Make the few host paths that a container binds reachable for an unprivileged process.

A node's data folder is 0700, and a node that is root gives each job a user id of its own. Before
the child takes that id it makes a private mount namespace and binds what the container needs
below one folder that everyone may enter. It is invisible outside and ends with the child.

Spec: specs/sandbox.md#root.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH102, PTH112

import ctypes
import os

STAGE = "/tmp"  # noqa: S108 - covered by a file system of our own, in our own namespace.
NEW_MOUNTS = 0x00020000
BIND, RECURSIVE, SLAVE = 0x1000, 0x4000, 0x80000
NO_SUID, NO_DEVICES = 0x2, 0x4


class Staging:
    """Makes host paths reachable; for an ordinary user's node every path stays as it is."""

    __slots__ = ("count", "libc", "sources")

    def __init__(self, paths: list[str], hidden: bool) -> None:  # noqa: FBT001
        """Enter the namespace if `hidden`; `paths` are all paths that `place` will get."""
        self.sources: dict[str, int] = {}
        self.count = 0
        if not hidden:
            return
        self.libc = ctypes.CDLL(None, use_errno=True)
        self._call(self.libc.unshare(NEW_MOUNTS))
        self._mount(b"none", b"/", RECURSIVE | SLAVE)
        # Opened first: the stage may cover them.
        self.sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}
        options = b"mode=0711,size=1m"
        self._call(
            self.libc.mount(b"stage", STAGE.encode(), b"tmpfs", NO_SUID | NO_DEVICES, options)
        )

    def place(self, path: str) -> str:
        """Return where the path can be reached from now on; OSError if it cannot be bound."""
        if not self.sources:
            return path
        source = self.sources[path]
        self.count += 1
        target = f"{STAGE}/{self.count}"
        if os.path.isdir(f"/proc/self/fd/{source}"):
            os.mkdir(target, 0o711)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        self._mount(f"/proc/self/fd/{source}".encode(), target.encode(), BIND | RECURSIVE)
        return target

    def _mount(self, source: bytes, target: bytes, flags: int) -> None:
        self._call(self.libc.mount(source, target, None, flags, None))

    def _call(self, result: int) -> None:
        """Raise the OSError of a call that failed."""
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
