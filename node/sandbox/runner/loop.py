"""A file system in an image file, by a loop device that goes with its last user.

Spec: specs/disk.md#image.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH108, PTH115, PTH116, PTH119

import errno
import fcntl
import os
import struct

from node.sandbox.runner import mounts

CONTROL = "/dev/loop-control"
GET_FREE, CONFIGURE, SET_DIRECT_IO = 0x4C82, 0x4C0A, 0x4C08
AUTO_CLEAR = 4
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
    os.unlink(image)


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
    numbers = (file, 0, 0, 0, 0, 0, 0, 0, 0, 0, AUTO_CLEAR)
    fcntl.ioctl(device, CONFIGURE, struct.pack(CONFIG, *numbers, b"", b"", b"", 0, 0))


def use_direct_io(place: str) -> None:
    """Let the device of a mounted image keep no second copy in the page cache, if it can.

    Not at the start: the kernel then waits until all of the image is written.
    """
    number = os.stat(place).st_dev
    try:
        name = os.readlink(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        device = os.open(f"/dev/{os.path.basename(name)}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.ioctl(device, SET_DIRECT_IO, 1)
    except OSError:  # The image's file system cannot.
        return
    finally:
        os.close(device)
