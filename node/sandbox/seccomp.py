"""One list of system calls in two forms: a BPF program for bwrap, OCI JSON for Docker.

Both refuse by default with EPERM. A call of a foreign ABI kills the process (i386) or does not
exist (x32); clone3 does not exist, so that libc falls back to clone, whose flags can be checked.

Spec: specs/sandbox.md#system-calls.
"""

import errno
import json
import struct
from functools import cache
from typing import Final

from node.sandbox import syscalls

LOAD: Final = 0x20  # A = the 32-bit word at offset k of seccomp_data.
EQUAL: Final = 0x15
AT_LEAST: Final = 0x35
ANY_BIT: Final = 0x45
RETURN: Final = 0x06

ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000
ERRNO: Final = 0x00050000

NUMBER: Final = 0  # Offsets in seccomp_data.
ARCH: Final = 4
ARGUMENT_0: Final = 16
ARGUMENT_1: Final = 24
ARGUMENT_2: Final = 32

X32_BIT: Final = 0x40000000
NAMESPACES: Final = 0x7E020000
"""All CLONE_NEW* flags: a job makes threads and processes, never namespaces."""
FAMILIES: Final = (1, 2, 10, 16)
"""Unix, IPv4, IPv6, netlink; the network namespace holds nothing but the loopback."""
PERSONALITIES: Final = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
TERMINAL_TRICKS: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX write into somebody's terminal."""
SOCKET_LEVEL: Final = 1
BUFFER_SIZES: Final = (7, 8, 32, 33)
"""SO_SNDBUF and SO_RCVBUF, and their forms for root."""

Instruction = tuple[int, int, int, int]


@cache
def program(
    machine: str,
    without: frozenset[str] = frozenset(),
    fixed_buffers: bool = False,  # noqa: FBT001, FBT002
) -> bytes:
    """Return the filter as an array of struct sock_filter for `bwrap --seccomp`.

    `machine` is the value of platform.machine(); `without` names calls to refuse in addition; with
    `fixed_buffers` a request for larger socket buffers succeeds without effect.
    """
    table = {name: n for name, n in syscalls.numbers(machine).items() if name not in without}
    code = [
        (LOAD, 0, 0, ARCH),
        (EQUAL, 1, 0, syscalls.AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    if machine == "x86_64":
        code += [(AT_LEAST, 0, 1, X32_BIT), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    for name in (*syscalls.CONDITIONAL, *(["setsockopt"] if fixed_buffers else [])):
        body = _judge(name)
        code += [(EQUAL, 0, len(body), table.pop(name)), *body]
    for low, high in _ranges(sorted(table.values())):
        code += [
            (AT_LEAST, 1, 0, low),
            (RETURN, 0, 0, ERRNO | errno.EPERM),
            (AT_LEAST, 1, 0, high + 1),
            (RETURN, 0, 0, ALLOW),
        ]
    code.append((RETURN, 0, 0, ERRNO | errno.EPERM))
    assert len(code) < 4096, "the kernel accepts no longer program"
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def profile() -> str:
    """Return the same policy as the JSON text that Docker's security_opt takes."""
    allow, index_0 = "SCMP_ACT_ALLOW", {"index": 0, "op": "SCMP_CMP_EQ"}
    rules: list[dict[str, object]] = [
        {"names": list(syscalls.names()), "action": allow},
        {
            "names": ["clone"],
            "action": allow,
            "args": [{"index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        },
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
        {
            "names": ["ioctl"],
            "action": allow,
            "args": [{"index": 1, "value": v, "op": "SCMP_CMP_NE"} for v in TERMINAL_TRICKS],
        },
    ]
    for name, values in (("socket", FAMILIES), ("personality", PERSONALITIES)):
        rules += [
            {"names": [name], "action": allow, "args": [{**index_0, "value": value}]}
            for value in values
        ]
    arches = [{"architecture": f"SCMP_ARCH_{m.upper()}"} for m in syscalls.AUDIT_ARCH]
    return json.dumps(
        {"defaultAction": "SCMP_ACT_ERRNO", "archMap": arches, "syscalls": rules}, sort_keys=True
    )


def _judge(name: str) -> list[Instruction]:
    """Return the instructions that decide about one call by its arguments; they always return."""
    allow, refuse = (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | errno.EPERM)
    match name:
        case "clone":
            return [(LOAD, 0, 0, ARGUMENT_0), (ANY_BIT, 0, 1, NAMESPACES), refuse, allow]
        case "clone3":
            return [(RETURN, 0, 0, ERRNO | errno.ENOSYS)]
        case "ioctl":
            return [(LOAD, 0, 0, ARGUMENT_1), *_one_of(TERMINAL_TRICKS), allow, refuse]
        case "socket":
            family = (RETURN, 0, 0, ERRNO | errno.EAFNOSUPPORT)
            return [(LOAD, 0, 0, ARGUMENT_0), *_one_of(FAMILIES), family, allow]
        case "setsockopt":
            size = [(LOAD, 0, 0, ARGUMENT_2), *_one_of(BUFFER_SIZES), allow, (RETURN, 0, 0, ERRNO)]
            return [(LOAD, 0, 0, ARGUMENT_1), (EQUAL, 0, len(size), SOCKET_LEVEL), *size, allow]
        case _:
            assert name == "personality"
            return [(LOAD, 0, 0, ARGUMENT_0), *_one_of(PERSONALITIES), refuse, allow]


def _one_of(values: tuple[int, ...]) -> list[Instruction]:
    """Return comparisons that jump over the next instruction if A is one of the values."""
    last = len(values) - 1
    return [(EQUAL, last - place + 1, 0, value) for place, value in enumerate(values)]


def _ranges(values: list[int]) -> list[tuple[int, int]]:
    """Return the sorted numbers as inclusive ranges without gaps."""
    found: list[tuple[int, int]] = []
    for value in values:
        if found and found[-1][1] == value - 1:
            found[-1] = (found[-1][0], value)
        else:
            found.append((value, value))
    return found
