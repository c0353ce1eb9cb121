"""Jobs that take all they can get: processes, memory in its many forms, disk, time.

They run in the container, on the standard library alone, and print `held N`, N in the unit of their
row in scripts/abuse.py, as they go: the last line before they are stopped is what they got.

Spec: specs/sandbox.md#probe.
"""

# ruff: noqa: PTH123, PTH211, PTH102

import ctypes
import fcntl
import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator

from scripts.probe_acts import become_a_daemon

MIB = 1 << 20
GREED_MIB = 1024
"""No attack takes more, so that a machine without walls survives it."""
GREED = 200_000
"""Nor more files, processes or descriptors."""
HOLD_S = 1.0
FOLDERS = ("/out", "/tmp", "/scratch", "/dev/shm", "/var/tmp", "/run")
SET_PIPE_SIZE = 1031
held: list[object] = []


def main(name: str) -> None:
    """Take, say how much, and keep it for a while."""
    got = step = 0
    try:
        for got in ATTACKS[name]():
            if got >= step:
                print("held", got, flush=True)
                step = got + max(1, got // 16)
    except (OSError, MemoryError) as fault:
        print("stopped by", type(fault).__name__, flush=True)
    print("held", got, flush=True)
    time.sleep(HOLD_S)


def processes() -> Iterator[int]:
    """Make processes that make processes."""
    for count in range(1, GREED):
        if os.fork() == 0:
            while True:
                try:
                    os.fork()
                except OSError:
                    time.sleep(0.05)
        yield count


def zombies() -> Iterator[int]:
    """Make processes that end, and never ask how."""
    for count in range(1, GREED):
        if os.fork() == 0:
            os._exit(0)
        yield count


def memory() -> Iterator[int]:
    for mib in range(1, GREED_MIB):
        held.append(bytearray(os.urandom(1)) * MIB)
        yield mib


def memory_files() -> Iterator[int]:
    """Write to files in memory that have no name."""
    for mib in range(1, GREED_MIB):
        if mib % 32 == 1:
            held.append(file := os.memfd_create("x"))
        os.write(file, bytes(MIB))
        yield mib


def socket_buffers() -> Iterator[int]:
    """Fill sockets that nobody reads."""
    got = 0
    while got < GREED_MIB * MIB:
        pair = socket.socketpair()
        held.append(pair)
        for sock in pair:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
            sock.setblocking(False)
            got += _filled(sock)
        yield got // MIB


def _filled(sock: socket.socket) -> int:
    got = 0
    while True:
        try:
            got += sock.send(bytes(32_768))
        except BlockingIOError:
            return got


def pipe_buffers() -> Iterator[int]:
    """Fill pipes that nobody reads."""
    got = 0
    while got < GREED_MIB * MIB:
        pipe = os.pipe()
        held.append(pipe)
        try:
            fcntl.fcntl(pipe[1], SET_PIPE_SIZE, MIB)
        except OSError:
            held.append("the user's pipes are full: this one stays small")
        os.set_blocking(pipe[1], False)
        got += os.write(pipe[1], bytes(MIB))
        yield got // MIB


def disk_out() -> Iterator[int]:
    return _fill("/out")


def disk_tmp() -> Iterator[int]:
    return _fill("/tmp")


def disk_scratch() -> Iterator[int]:
    return _fill("/scratch")


def _fill(first: str) -> Iterator[int]:
    """Fill a folder, then every other that can be written to."""
    got = 0
    for folder in (first, *FOLDERS):
        for number in itertools.count():
            try:
                with open(f"{folder}/{first[1:]}-{number}", "xb", buffering=0) as file:
                    got += file.write(bytes(MIB))
            except OSError:
                break
            if got >= GREED_MIB * MIB:
                return
            yield got // MIB


def empty_files() -> Iterator[int]:
    """Make files without a byte in every folder that can be written to."""
    count = 0
    for folder in FOLDERS:
        for number in range(GREED):
            try:
                os.close(os.open(f"{folder}/empty-{number}", os.O_CREAT))
            except OSError:
                break
            count += 1
            yield count


def descriptors() -> Iterator[int]:
    """Open as much as all processes together may."""
    for count in range(1, GREED):
        try:
            held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            if os.fork() != 0:
                signal.pause()
            for descriptor in held:
                os.close(int(str(descriptor)))
            held.clear()
        yield count


def inotify() -> Iterator[int]:
    """Take the user's inotify instances."""
    libc = ctypes.CDLL(None, use_errno=True)
    for count in range(1, GREED):
        if libc.inotify_init1(0) == -1:
            raise OSError(ctypes.get_errno(), "inotify")
        yield count


def daemons() -> Iterator[int]:
    """Leave processes that ignore every signal, and wait for the time-out."""
    for count in range(1, 9):
        if os.fork() == 0:
            become_a_daemon(sys.argv[-1])
        yield count
    time.sleep(600)


def daemons_alone() -> Iterator[int]:
    """Leave such processes, which also hold stdout, and end at once."""
    yield from itertools.islice(daemons(), 8)
    os._exit(0)


def log() -> Iterator[int]:
    """Print without end."""
    for mib in range(1, 65):
        os.write(1, b"x" * MIB)
        yield mib


def processors() -> Iterator[int]:
    """Compute in more processes than the job has processors."""
    end = time.monotonic() + HOLD_S
    for _ in range(2):
        os.fork()
    while time.monotonic() < end:
        yield 4


def outputs() -> Iterator[int]:
    """Leave in /out what must not be followed, copied or believed."""
    os.chdir("/out")
    for number, target in enumerate(("/etc/passwd", "../../../../etc/shadow", "/proc/self/environ",
                                     "/proc/1/root/etc/passwd", "/", ".", "loop-6")):  # fmt: skip
        os.symlink(target, f"loop-{number}")
    os.symlink("/etc", "folder")
    with open("real", "w") as file:
        file.write("hello")
    os.link("real", "twin")
    for name in (
        "-rf",
        "a\nb",
        "\x1b[31mred",
        b"\xff\xfe".decode(errors="surrogateescape"),
        "x" * 255,
    ):
        with open(name, "w") as file:
            file.write("odd")
    with open("sparse", "w") as file:
        file.truncate(8 * MIB)
    socket.socket(socket.AF_UNIX).bind("socket")
    for number in range(12_000):
        os.close(os.open(f"many-{number}", os.O_CREAT))
        yield number
    for _ in range(2_000):
        os.mkdir("deep")
        os.chdir("deep")


ATTACKS: dict[str, Callable[[], Iterator[int]]] = {
    attack.__name__: attack
    for attack in (
        processes, zombies, memory, memory_files, socket_buffers, pipe_buffers, disk_out, disk_tmp,
        disk_scratch, empty_files,
        descriptors, inotify, daemons, daemons_alone, log, processors, outputs,
    )
}  # fmt: skip
