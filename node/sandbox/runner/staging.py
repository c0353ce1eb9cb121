"""Make the few host paths that a container binds reachable for an unprivileged process.

A node's data folder is 0700, and a node that is root gives each job a user id of its own. Before
the child takes that id it makes a private mount namespace and binds what the container needs
below one folder that everyone may enter. It is invisible outside and ends with the child.

Spec: specs/sandbox.md#root.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH102, PTH112

import os

from node.sandbox.runner import mounts

STAGE = "/tmp"  # noqa: S108 - covered by a file system of our own, in our own namespace.


class Staging:
    """Makes host paths reachable; for an ordinary user's node every path stays as it is."""

    __slots__ = ("count", "sources")

    def __init__(self, paths: list[str], hidden: bool) -> None:  # noqa: FBT001
        """Enter the namespace if `hidden`; `paths` are all paths that `place` will get."""
        self.sources: dict[str, int] = {}
        self.count = 0
        if not hidden:
            return
        mounts.own_namespace()
        # Opened first: the stage may cover them.
        self.sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}
        flags = mounts.NO_SUID | mounts.NO_DEVICES
        mounts.mount("stage", STAGE, "tmpfs", flags, "mode=0711,size=1m")

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
        flags = mounts.BIND | mounts.RECURSIVE
        mounts.mount(f"/proc/self/fd/{source}", target, flags=flags)
        return target
