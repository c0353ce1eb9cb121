"""The processes of a container, found by their PID namespace: to count them, and to stop them.

Spec: specs/sandbox.md#pause.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH115, PTH123, PTH208

import os
import time

STOP_ROUNDS = 100
ROUND_SECONDS = 0.002
AT_REST = frozenset("TtZX")
"""States of /proc/PID/stat in which nothing runs: stopped, traced, dead."""


def namespace_of(process: int) -> str:
    """Return the name of the process's PID namespace, "" if it is gone or not ours to see."""
    try:
        return os.readlink(f"/proc/{process}/ns/pid")
    except OSError:
        return ""


def members_of(namespace: str) -> list[int]:
    """Return the processes in a PID namespace."""
    found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [process for process in found if namespace_of(process) == namespace]


def stop(namespace: str) -> bool:
    """Stop all processes of a namespace and their forks; return False if one still runs.

    A stopped process starts no other, so two rounds are enough for a well-behaved job.
    """
    for _ in range(STOP_ROUNDS):
        if at_rest(namespace):
            return True
        _signal(namespace, "SIGSTOP")
        time.sleep(ROUND_SECONDS)
    return False


def resume(namespace: str) -> None:
    """Resume all processes of a namespace."""
    _signal(namespace, "SIGCONT")


def terminate_children(namespace: str, init: int) -> None:
    """Send SIGTERM to the processes that the init of a namespace has started: the job's first."""
    _signal(namespace, "SIGTERM", init)


def at_rest(namespace: str) -> bool:
    """Return whether no process of a namespace runs."""
    return all(_state_of(process) in AT_REST for process in members_of(namespace))


def _signal(namespace: str, name: str, parent: int = 0) -> None:
    """Send a signal to all processes of a namespace, or only to the children of one."""
    import signal  # noqa: PLC0415 - its enums take 5 ms that only a pause costs.

    number = getattr(signal, name)
    for process in members_of(namespace):
        try:
            handle = os.pidfd_open(process)
        except OSError:
            continue
        try:
            ours = namespace_of(process) == namespace  # The process id is not reused.
            if ours and parent in {0, _parent_of(process)}:
                signal.pidfd_send_signal(handle, number)
        except OSError:
            continue
        finally:
            os.close(handle)


def _state_of(process: int) -> str:
    """Return the letter of the process's state; "X" if it is gone."""
    fields = _stat_of(process)
    return fields[0] if fields else "X"


def _parent_of(process: int) -> int:
    """Return the process's parent; -1 if the process is gone."""
    fields = _stat_of(process)
    return int(fields[1]) if fields else -1


def _stat_of(process: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; [] if the process is gone."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].decode().split()
    except OSError:
        return []
