"""A job's log: what it prints, up to a bound, and never at the node's cost beyond it.

Spec: specs/sandbox.md#log.
"""

import os
import time

CHUNK = 1 << 16
LINE_BYTES = 4096
DRAIN_BYTES = 1 << 20
DRAIN_PAUSE_SECONDS = 0.005


class LogFile:
    """The file that stdout and stderr grow in.

    When our disk takes no more, nothing is raised: whoever watches a container has more to do than
    to keep its log. `fault` says why the log is not whole then, "" if it is.
    """

    __slots__ = ("descriptor", "fault", "full", "last", "mib", "room")

    def __init__(self, path: str, mib: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(path, flags, 0o600)
        self.mib = mib
        self.room = (mib << 20) - os.fstat(self.descriptor).st_size
        self.full = self.room <= 0
        self.fault = ""
        self.last = b""  # Of what was added, its end.

    def add(self, data: bytes) -> None:
        """Write the bytes as far as there is room, then say once that the rest is missing."""
        if self.full:
            return
        piece = data[: self.room]
        self.last = (self.last + piece)[-LINE_BYTES:]
        self.room -= len(piece)
        if len(piece) < len(data):
            self.full = True
            piece += f"\n… log truncated at {self.mib} MiB\n".encode()
        try:
            _write_all(self.descriptor, piece)
        except OSError as fault:
            self.full = True
            self.fault = str(fault.strerror)

    def last_line(self) -> str:
        """Return the last line, or as much of its end as we remember."""
        return self.last.rstrip().rpartition(b"\n")[2].decode(errors="replace")

    def say(self, line: str) -> None:
        """Add a line of the sandbox, on a line of its own."""
        begin = "\n" if self.last and not self.last.endswith(b"\n") else ""
        self.add(f"{begin}mutirao: {line}\n".encode())

    def close(self) -> None:
        """Close the file; the log is complete."""
        os.close(self.descriptor)


def drain_pipe(pipe: int, sink: int) -> bool:
    """Throw away what the pipe holds without copying it; return whether its writers still live.

    The pause bounds what a flood costs: some hundred cheap calls a second, and the job waits.
    """
    time.sleep(DRAIN_PAUSE_SECONDS)
    try:
        return os.splice(pipe, sink, DRAIN_BYTES) > 0
    except BlockingIOError:
        return True


def _write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; OSError if our disk is full."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
