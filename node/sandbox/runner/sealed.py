"""A copy of a program in memory that nobody can change, to be executed by its descriptor.

A container's first process shows the job, in /proc/1/exe, the file that it was started from. The
node of an ordinary user owns its program under the same user id as the job: a job could change the
file's mode, or write to it once nobody runs it. Instead it finds a copy that lives as long as the
container.

Spec: specs/sandbox.md#the-first-process.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH123

import errno
import fcntl
import os

MFD_EXEC = 0x10
"""Permits execution whatever vm.memfd_noexec prefers; Linux 6.3, and missing in Python 3.11."""
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def copy(path: str) -> int:
    """Return a descriptor of a sealed copy, closed on exec; OSError says in words why it failed."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        descriptor = _memory_file(os.path.basename(path))  # noqa: PTH119
        while size > 0 and (sent := os.sendfile(descriptor, file.fileno(), None, size)):
            size -= sent
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    return descriptor


def _memory_file(name: str) -> int:
    """Return an empty file in memory that may be executed."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | MFD_EXEC)
    except OSError as fault:
        if fault.errno == errno.EINVAL:  # Before Linux 6.3 every such file may be executed.
            return os.memfd_create(name, flags)
        if fault.errno == errno.EACCES:
            why = "the kernel does not execute files in memory; set the sysctl vm.memfd_noexec=1"
            raise OSError(fault.errno, why) from fault
        raise
