"""A container's init, identified by a process that did not start it.

A PID namespace dies with its init. A container should die with its runner; the record says what to
kill if it did not. A process id alone is not an identity, since it is reused. So the record also
holds the boot, the start time of the process and its PID namespace, and the signal goes to exactly
the process that was checked.

Spec: specs/sandbox.md#run-folder.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH115, PTH123

import os
import select

from node.sandbox.runner import records

BOOT = "/proc/sys/kernel/random/boot_id"
STARTED = 19
"""The index of the start time in /proc/<pid>/stat, counted after the program's name."""
DEATH_MS = 5_000


def note(process: int) -> None:
    """Record the identity of the container's init in the current folder, the run folder."""
    records.write(records.INIT, _identity(process), durable=False)


def end(path: str) -> None:
    """Kill the init in the record at the path, if that same process still lives."""
    record = records.read(path)
    if record is None:
        return
    process = record.number("process")
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        if _identity(process) == record.pairs:
            import signal  # noqa: PLC0415 - only the daemon ends others' containers.

            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(DEATH_MS)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def _identity(process: int) -> list[tuple[str, str]]:
    """Return what distinguishes the process from all others with the same id."""
    try:
        with open(BOOT) as file:
            boot = file.read().strip()
        with open(f"/proc/{process}/stat") as file:
            started = file.read().rpartition(")")[2].split()[STARTED]
        namespace = os.readlink(f"/proc/{process}/ns/pid")
    except (FileNotFoundError, PermissionError, ProcessLookupError) as fault:
        raise ProcessLookupError(process) from fault
    fields = {"process": process, "started": started, "namespace": namespace, "boot": boot}
    return [(key, str(value)) for key, value in fields.items()]
