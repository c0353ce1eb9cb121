r"""Small records in the run folder: fields that end with NUL, written whole or not at all.

A record is a list of (key, value) pairs; a key may come more than once, and order is kept. No
value holds a NUL, since the values are arguments and paths. `tr '\0' '\n' < result` shows one.

Spec: specs/sandbox.md#run-folder.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH104, PTH123

import os

LOCK = "lock"  # A POSIX record lock, held by the runner as long as it lives.
LAUNCH = "launch"  # What to start: written by the daemon, read by the runner.
STATE = "state"  # The runner's process id and its descriptor of /out; the start and pauses, in ms.
INIT = "init"  # Who is process 1 of an embedded container, written before the job begins.
BUDGET = "budget"  # The budget in ms: rewritten by the daemon, read by the runner.
CONTROL = "control"  # A FIFO: "k" kills, "t" sends SIGTERM; for others the budget is read.
EGRESS = "egress"  # A Unix socket: it gives the daemon the listening socket in the container.
LOG = "log"
OUTPUTS = "outputs"
CHECKPOINT = "checkpoint"  # A copy of what the running job left at its checkpoint's path.
RESULT = "result"
FAULT = "fault"  # The runner's own stderr, empty unless the runner has a bug.
SECCOMP = "seccomp"


class Fields:
    """A record that was read."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs

    def one(self, key: str, default: str = "") -> str:
        """Return the first value of the key."""
        return next((value for name, value in self.pairs if name == key), default)

    def number(self, key: str, default: int = 0) -> int:
        """Return the key's value as a number; ValueError if it is not one."""
        return int(self.one(key) or default)

    def every(self, key: str) -> list[str]:
        """Return all values of the key, in order."""
        return [value for name, value in self.pairs if name == key]


def write(path: str, pairs: list[tuple[str, str]], durable: bool = True) -> None:  # noqa: FBT001, FBT002
    """Replace the record at the path; `durable` waits until it survives a power failure."""
    text = "".join(f"{key}={value}\0" for key, value in pairs)
    draft = f"{path}.draft"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = memoryview(os.fsencode(text))
        while data:
            data = data[os.write(descriptor, data) :]
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(draft, path)


def read(path: str) -> Fields | None:
    """Return the record at the path, None if there is none."""
    try:
        with open(path, "rb") as file:
            text = os.fsdecode(file.read())
    except FileNotFoundError:
        return None
    pairs = [item.partition("=") for item in text.split("\0") if item]
    return Fields([(key, value) for key, _, value in pairs])
