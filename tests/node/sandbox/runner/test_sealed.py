"""Programs in memory that nobody can change.

Spec: specs/sandbox.md#the-first-process.
"""

# ruff: noqa: PTH123

import errno
import os
import subprocess

import pytest

from node.sandbox.runner import sealed

MFD_CREATE = os.memfd_create


def test_a_copy_is_whole_and_can_be_executed():
    copy = sealed.copy("/bin/echo")
    with open("/bin/echo", "rb") as file:
        assert os.pread(copy, 2**24, 0) == file.read()
    done = subprocess.run(["echo", "hello"], executable=f"/proc/self/fd/{copy}", pass_fds=[copy],
                          capture_output=True, check=True)  # fmt: skip
    assert done.stdout == b"hello\n"
    os.close(copy)


def test_nobody_can_change_a_copy():
    copy = sealed.copy("/bin/echo")
    again = os.open(f"/proc/self/fd/{copy}", os.O_RDWR)
    for descriptor in (copy, again):
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def test_a_kernel_that_does_not_know_the_flag_needs_none(monkeypatch):
    def old(name, flags):
        if flags & sealed.MFD_EXEC:
            raise OSError(errno.EINVAL, "Invalid argument")
        return MFD_CREATE(name, flags)

    monkeypatch.setattr(os, "memfd_create", old)
    os.close(sealed.copy("/bin/echo"))


def test_a_kernel_that_forbids_it_is_named_with_the_setting(monkeypatch):
    def refuse(name, flags):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(OSError, match=r"vm\.memfd_noexec=1"):
        sealed.copy("/bin/echo")
