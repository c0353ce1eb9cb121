"""The disk of a job: one folder for /out, /tmp and /scratch, in the run folder.

The field `disk` of the launch record says what bounds it. `image`: a file system of its own, as
large as the job's disk. `folder`: the runner, which adds up what lies there. `memory`: there is no
such folder, and the three are in memory.

Spec: specs/disk.md#kinds.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH101, PTH102, PTH103

import os
import select

from node.sandbox.runner import loop, mounts
from node.sandbox.runner.container import StartFailed
from node.sandbox.runner.records import Fields

DISK = "disk"
IMAGE = "disk.img"
PARTS = ("out", "tmp", "scratch")
OUT = f"{DISK}/out"
BY_IMAGE, BY_WATCH, IN_MEMORY = "image", "folder", "memory"


def is_on_disk(fields: Fields) -> bool:
    """Return whether the job's disk is no memory."""
    return fields.one("disk") in {BY_IMAGE, BY_WATCH}


def open_disk(fields: Fields) -> None:
    """Make the disk of the launch record in the current folder; StartFailed says why it cannot.

    An image is mounted in a namespace of the runner: it goes with the runner and its container.
    """
    kind = fields.one("disk")
    if not is_on_disk(fields):
        return
    try:
        if kind == BY_IMAGE:
            mounts.own_namespace()
        make(".", kind, fields.number("uid") if fields.one("uid") else None)
    except OSError as fault:
        raise StartFailed(f"the job's disk cannot be made: {fault.strerror}") from fault


def leave() -> None:
    """Let another process unmount, which may take long; the runner's work is done.

    The namespace lasts as long as its last process. That one belongs to who forked the runner.
    """
    if not os.path.ismount(DISK):
        return
    runner = os.pidfd_open(os.getpid())
    if os.fork() != 0:
        return
    poll = select.poll()
    poll.register(runner, select.POLLIN)
    poll.poll()
    os._exit(0)


def make(folder: str, kind: str, user: int | None) -> None:
    """Make the disk in a run folder, unless it is there; `user` is the job's, None if it is us."""
    place = f"{folder}/{DISK}"
    os.makedirs(place, 0o700, exist_ok=True)
    if kind == BY_IMAGE and not os.path.ismount(place):
        loop.mount_image(f"{folder}/{IMAGE}", place)
    for part in PARTS:
        inner = f"{place}/{part}"
        if not os.path.isdir(inner):  # noqa: PTH112
            os.mkdir(inner)
            os.chmod(inner, 0o1777)  # noqa: S103 - as /tmp is.
        if user is not None:
            os.chown(inner, user, user)
