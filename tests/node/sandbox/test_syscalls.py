"""The table of system calls.

Spec: specs/sandbox.md#system-calls.
"""

import pytest

from node.sandbox import syscalls


def test_numbers_are_the_machines():
    assert syscalls.numbers("x86_64")["read"] == 0
    assert syscalls.numbers("aarch64")["read"] == 63
    assert syscalls.numbers("x86_64")["openat2"] == syscalls.numbers("aarch64")["openat2"] == 437
    assert "open" not in syscalls.numbers("aarch64")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_no_number_comes_twice(machine):
    table = syscalls.numbers(machine)
    assert len(set(table.values())) == len(table)


def test_the_dangerous_are_not_there():
    refused = {"ptrace", "io_uring_setup", "mount", "bpf", "setns", "unshare", "keyctl", "mknod",
               "process_vm_writev", "userfaultfd", "open_by_handle_at", "kexec_load"}  # fmt: skip
    assert not refused & set(syscalls.names())
    assert not set(syscalls.CONDITIONAL) & set(syscalls.names())


def test_an_unknown_machine_is_refused():
    with pytest.raises(KeyError, match="riscv64"):
        syscalls.numbers("riscv64")
