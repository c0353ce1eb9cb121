"""The filter, interpreted as the kernel does.

Spec: specs/sandbox.md#system-calls.
"""

import errno
import json
import struct

import pytest

from node.sandbox import seccomp, syscalls

REFUSED = seccomp.ERRNO | errno.EPERM


def verdict(program: bytes, arch: int, number: int, *arguments: int) -> int:
    data = struct.pack("<IIQ6Q", number, arch, 0, *(*arguments, *(0,) * (6 - len(arguments))))
    code = list(struct.iter_unpack("<HBBI", program))
    place = word = 0
    while True:
        operation, yes, no, k = code[place]
        place += 1
        match operation:
            case seccomp.LOAD:
                word = struct.unpack_from("<I", data, k)[0]
            case seccomp.EQUAL:
                place += yes if word == k else no
            case seccomp.AT_LEAST:
                place += yes if word >= k else no
            case seccomp.ANY_BIT:
                place += yes if word & k else no
            case seccomp.RETURN:
                return k


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_number_is_judged_as_the_table_says(machine):
    program, arch = seccomp.program(machine), syscalls.AUDIT_ARCH[machine]
    conditional = {pair[machine == "aarch64"] for pair in syscalls.CONDITIONAL.values()}
    allowed = set(syscalls.numbers(machine).values()) - conditional
    for number in range(600):
        if number not in conditional:
            expected = seccomp.ALLOW if number in allowed else REFUSED
            assert verdict(program, arch, number) == expected, number


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_arguments_decide(machine):
    program, arch = seccomp.program(machine), syscalls.AUDIT_ARCH[machine]

    def ask(name: str, *arguments: int) -> int:
        return verdict(program, arch, syscalls.CONDITIONAL[name][machine == "aarch64"], *arguments)

    assert ask("clone", 0x11) == seccomp.ALLOW
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask("clone", 0x11 | flag) == REFUSED
    assert ask("clone3") == seccomp.ERRNO | errno.ENOSYS
    assert [ask("socket", family) == seccomp.ALLOW for family in (1, 2, 10, 16, 17, 38, 40)] == [
        True, True, True, True, False, False, False]  # fmt: skip
    assert ask("ioctl", 0, 0x5412) == ask("ioctl", 0, 0x541C) == REFUSED
    assert ask("ioctl", 0, 0x5401) == seccomp.ALLOW
    assert ask("personality", 0xFFFFFFFF) == seccomp.ALLOW
    assert ask("personality", 0x0040000) == REFUSED


def test_foreign_abis_do_not_exist():
    program = seccomp.program("x86_64")
    assert verdict(program, 0x40000003, 1) == seccomp.KILL
    number = seccomp.X32_BIT | 1
    assert verdict(program, 0xC000003E, number) == seccomp.ERRNO | errno.ENOSYS


def test_more_can_be_refused():
    program = seccomp.program("x86_64", frozenset({"memfd_create"}))
    assert verdict(program, 0xC000003E, 319) == REFUSED
    assert verdict(seccomp.program("x86_64"), 0xC000003E, 319) == seccomp.ALLOW


@pytest.mark.parametrize("machine, number", [("x86_64", 54), ("aarch64", 208)])
def test_buffers_of_sockets_keep_their_size_where_nobody_counts_them(machine, number):
    fixed = seccomp.program(machine, fixed_buffers=True)
    arch = syscalls.AUDIT_ARCH[machine]
    for option in (7, 8, 32, 33):
        assert verdict(fixed, arch, number, 3, 1, option) == seccomp.ERRNO  # "Yes", and nothing.
        assert verdict(fixed, arch, number, 3, 6, option) == seccomp.ALLOW
        assert verdict(seccomp.program(machine), arch, number, 3, 1, option) == seccomp.ALLOW
    assert verdict(fixed, arch, number, 3, 1, 2) == seccomp.ALLOW


def test_docker_gets_the_same_policy():
    profile = json.loads(seccomp.profile())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["syscalls"][0]["names"] == list(syscalls.names())
    conditional = {name for rule in profile["syscalls"][1:] for name in rule["names"]}
    assert conditional == set(syscalls.CONDITIONAL)
    families = [r["args"][0]["value"] for r in profile["syscalls"] if r["names"] == ["socket"]]
    assert families == list(seccomp.FAMILIES)
