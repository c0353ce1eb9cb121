"""A job's log: its output up to a bound; further output costs the node almost nothing.

Spec: specs/sandbox.md#log.
"""

import os
import time

CHUNK = 1 << 16
LINE_BYTES = 4096
DRAIN_BYTES = 1 << 20
DRAIN_PAUSE_SECONDS = 0.005


class LogFile:
    """The file that receives stdout and stderr.

    A full disk raises nothing: supervising the container is more important than its log. `fault`
    then says why the log is incomplete, "" if it is complete.
    """

    __slots__ = ("descriptor", "fault", "full", "last", "mib", "room")

    def __init__(self, path: str, mib: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(path, flags, 0o600)
        self.mib = mib
        self.room = (mib << 20) - os.fstat(self.descriptor).st_size
        self.full = self.room <= 0
        self.fault = ""
        self.last = b""  # The end of the added bytes.

    def add(self, data: bytes) -> None:
        """Write the bytes that fit, then note once that the rest is missing."""
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
    """Discard the pipe's content without copying it; return whether its writers still live.

    The pause bounds the cost of a flood: some hundred cheap calls a second, while the job waits.
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
