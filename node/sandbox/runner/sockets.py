"""What waits in sockets is memory that belongs to no process: a bound for each, and their number.

Without control groups nobody counts these bytes. A socket's buffer has Linux's default size unless
the program asks for another, which the filter of system calls ignores; TCP's grow by themselves, up
to what the network namespace allows. So TCP is held to that size too, and a socket counts as if it
were full.

Spec: specs/execution.md#soft-memory.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH123

import fcntl
import os

SOCKET_BYTES = 256 << 10
"""A full socket: Linux's default buffer of 208 KiB, and the message that overfills it."""
TCP_SIZES = "4096 65536 106496"
"""Least, first and most of each of TCP's two buffers."""
SETTINGS = ("/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/net/ipv4/tcp_wmem")
GET_OWNER = 0xB701  # NS_GET_USERNS of linux/nsfs.h.


def bound(init: int) -> None:
    """Bound TCP's buffers in the network namespace of the process; OSError if it can't be done."""
    child = os.fork()
    if child == 0:
        fault = 255
        try:
            _enter(init)
            for setting in SETTINGS:
                _set(setting)
            fault = 0
        except OSError as error:
            fault = error.errno or fault
        finally:
            os._exit(fault)
    fault = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if fault:
        raise OSError(fault, f"the sockets' memory cannot be bounded: {os.strerror(fault)}")


def held_bytes(init: int) -> int:
    """Return what the sockets in the process's network namespace may hold; 0 if it is gone."""
    try:
        with open(f"/proc/{init}/net/sockstat") as file:
            words = file.readline().split()
    except OSError:
        return 0
    return int(words[2]) * SOCKET_BYTES if words else 0  # "sockets: used 3".


def _set(setting: str) -> None:
    with open(setting, "w") as file:
        file.write(TCP_SIZES)


def _enter(init: int) -> None:
    """Enter the network namespace of the process, with all rights over it.

    Those come with its user namespace, which is not the process's own: that is one further in.
    """
    import ctypes  # noqa: PLC0415 - 5 ms that only containers without control groups pay.

    network = os.open(f"/proc/{init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    owner = fcntl.ioctl(network, GET_OWNER)
    libc = ctypes.CDLL(None, use_errno=True)
    for namespace in (owner, network):
        if libc.setns(namespace, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
