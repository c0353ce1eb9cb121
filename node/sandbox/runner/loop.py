"""A file system in an image file, by a loop device that goes with its last user.

Spec: specs/disk.md#image.
"""

import errno
import fcntl
import os
import struct

from node.sandbox.runner import mounts

CONTROL = "/dev/loop-control"
GET_FREE, CONFIGURE = 0x4C82, 0x4C0A
AUTO_CLEAR, DIRECT_IO = 4, 16
CONFIG = "<II QQQQQIIII64s64s32sQQ 64x"
"""struct loop_config: the image's descriptor, and what we want of the device."""
ATTEMPTS = 64
OPTIONS = "noinit_itable,nobarrier"
"""Zeros need no second writing; and nobody reads the image after a loss of power."""


def mount_image(image: str, place: str) -> None:
    """Mount the ext4 of an image at a folder; OSError if this machine cannot.

    The image has no name afterwards: its room is free again as soon as it is not mounted.
    """
    file = os.open(image, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        name, device = _device_of(file)
    finally:
        os.close(file)
    try:
        flags = mounts.NO_SUID | mounts.NO_DEVICES | mounts.NO_ATIME
        mounts.mount(name, place, "ext4", flags, OPTIONS)
    finally:
        os.close(device)  # From now on the mount keeps it.
    os.unlink(image)  # noqa: PTH108 - pathlib takes 10 ms to import.


def _device_of(file: int) -> tuple[str, int]:
    """Return name and descriptor of a loop device for a file."""
    for _ in range(ATTEMPTS):
        name = f"/dev/loop{_free_number()}"
        device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        try:
            _configure(device, file)
        except OSError as fault:
            os.close(device)
            if fault.errno == errno.EBUSY:  # Another program was faster.
                continue
            raise
        return name, device
    raise OSError(errno.EBUSY, "no loop device is free")


def _free_number() -> int:
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(control, GET_FREE)
    finally:
        os.close(control)


def _configure(device: int, file: int) -> None:
    """Attach the file; without a second copy in the page cache if its file system can do that."""
    for flags in (AUTO_CLEAR | DIRECT_IO, AUTO_CLEAR):
        numbers = (file, 0, 0, 0, 0, 0, 0, 0, 0, 0, flags)
        try:
            fcntl.ioctl(device, CONFIGURE, struct.pack(CONFIG, *numbers, b"", b"", b"", 0, 0))
        except OSError as fault:
            if fault.errno == errno.EINVAL and flags & DIRECT_IO:
                continue
            raise
        return
