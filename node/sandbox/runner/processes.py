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


def at_rest(namespace: str) -> bool:
    """Return whether no process of a namespace runs."""
    return all(_state_of(process) in AT_REST for process in members_of(namespace))


def _signal(namespace: str, name: str) -> None:
    import signal  # noqa: PLC0415 - its enums take 5 ms that only a pause costs.

    number = getattr(signal, name)
    for process in members_of(namespace):
        try:
            handle = os.pidfd_open(process)
        except OSError:
            continue
        try:
            if namespace_of(process) == namespace:  # The process id is not reused.
                signal.pidfd_send_signal(handle, number)
        except OSError:
            continue
        finally:
            os.close(handle)


def _state_of(process: int) -> str:
    """Return the letter of the process's state; "X" if it is gone."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return chr(file.read().rpartition(b") ")[2][0])
    except OSError:
        return "X"
