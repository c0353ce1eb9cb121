"""A container's init, known again by somebody who did not start it.

With its init a PID namespace dies whole. A container should die with its runner; the record says
what to end if it did not. A process id alone names nobody: it passes to others. The record holds
the boot, the time of the process's start and its PID namespace too, and the signal goes to what was
looked at.

Spec: specs/sandbox.md#run-folder.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH115, PTH123

import os
import select

from node.sandbox.runner import records

BOOT = "/proc/sys/kernel/random/boot_id"
STARTED = 19
"""Where in /proc/<pid>/stat the start stands, counted from behind the program's name."""
DEATH_MS = 5_000


def note(process: int) -> None:
    """Write down, in the run folder we are in, who the container's init is."""
    records.write(records.INIT, _identity(process), durable=False)


def end(path: str) -> None:
    """Kill the init that the record at the path tells of, if that very process still lives."""
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
    """Return what tells the process from all that ever had its number."""
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
