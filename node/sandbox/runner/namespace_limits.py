"""Limits of a container's own namespaces, for what neither resource nor group limits cover.

Data queued in sockets is memory of no process, and without control groups nobody counts it. A
socket's buffer has Linux's default size unless the program requests another, which the filter of
system calls ignores; TCP's buffers grow by themselves, up to the limit of the network namespace. So
TCP is limited to that size too, and every socket is counted as full.

Watches on files (inotify) are counted per user of the machine: a job with its node's user id could
use up those of the owner and of other jobs.

Spec: specs/sandbox.md#soft-memory.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH123

import ctypes
import fcntl
import os

SOCKET_BYTES = 256 << 10
"""A full socket: Linux's default buffer of 208 KiB, and the message that overfills it."""
TCP = {
    "/proc/sys/net/ipv4/tcp_rmem": "4096 65536 106496",
    "/proc/sys/net/ipv4/tcp_wmem": "4096 65536 106496",
}
"""Minimum, initial and maximum size of TCP's two buffers."""
INOTIFY = {
    "/proc/sys/user/max_inotify_instances": "8",
    "/proc/sys/user/max_inotify_watches": "8192",
}
"""Of the 128 instances that Linux gives a user, and of his watches, each some KiB of memory."""
GET_OWNER = 0xB701  # NS_GET_USERNS of linux/nsfs.h.


def bound(init: int, settings: dict[str, str]) -> None:
    """Set kernel settings in the namespaces of the process; OSError if they cannot be set."""
    child = os.fork()
    if child == 0:
        fault = 255
        try:
            enter(init)
            for path, value in settings.items():
                _set(path, value)
            fault = 0
        except OSError as error:
            fault = error.errno or fault
        finally:
            os._exit(fault)
    fault = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if fault:
        raise OSError(fault, f"cannot limit the container's namespaces: {os.strerror(fault)}")


def held_bytes(init: int) -> int:
    """Return what the sockets in the process's network namespace may hold; 0 if it is gone."""
    try:
        with open(f"/proc/{init}/net/sockstat") as file:
            words = file.readline().split()
    except OSError:
        return 0
    return int(words[2]) * SOCKET_BYTES if words else 0  # "sockets: used 3".


def _set(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)


def enter(init: int) -> None:
    """Enter the network namespace of the process and the user namespace that owns it.

    That gives all rights over both. The process's own user namespace is a child of it, except in
    Docker, where the owner is the machine's own, which nobody can enter again.
    """
    network = os.open(f"/proc/{init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    owner = fcntl.ioctl(network, GET_OWNER)
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    is_ours = os.path.sameopenfile(owner, own)
    for namespace in (network,) if is_ours else (owner, network):
        if libc.setns(namespace, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
