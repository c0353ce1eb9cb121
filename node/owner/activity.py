"""Whether somebody uses this machine: terminals, keyboards and mice, other programs.

Only the time of an event counts; what was typed is read and discarded at once.
Spec: specs/owner.md#idle.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

TERMINALS: Final = ("pts/[0-9]*", "tty[0-9]*")
INPUT_DEVICES: Final = ("input/by-path/*-event-kbd", "input/by-path/*-event-mouse")
READ_BYTES: Final = 4_096


class OwnerActivity:
    """Remembers when the owner used a terminal or an input device last."""

    def __init__(self, devices: Path = Path("/dev"), processes: Path = Path("/proc")) -> None:
        """Take the folders of the devices and of the kernel's statistics."""
        self._devices = devices
        self._processes = processes
        self._open: dict[Path, int] = {}
        self._used_s = 0.0
        self._seen: tuple[float, float, int] | None = None
        """At the last call: the time, the seconds that processors worked, and those lent."""

    def note_used(self, now_s: float) -> None:
        """Remember that the owner uses the machine in another way."""
        self._used_s = now_s

    def last_used_s(self, now_s: float) -> float:
        """Return when a terminal or an input device was used last, in Unix seconds; 0 if never."""
        for pattern in TERMINALS:
            for terminal in self._devices.glob(pattern):
                with suppress(OSError):  # It was closed a moment ago.
                    self._used_s = max(self._used_s, min(terminal.stat().st_atime, now_s))
        self._open_devices()
        if any([self._has_events(path) for path in tuple(self._open)]):  # noqa: C419 - Drain all.
            self._used_s = now_s
        return self._used_s

    def processors_of_others(self, lent_cpus: int, now_s: float) -> float:
        """Return how many processors others used since the last call, on average; 0 at first.

        Jobs use at most what is lent to them, then or now; what this node uses itself is its own.
        """
        seen = now_s, self._busy_s() - time.process_time(), lent_cpus
        before, self._seen = self._seen, seen
        if before is None or now_s <= before[0]:
            return 0.0
        used = (seen[1] - before[1]) / (now_s - before[0])
        return max(0.0, used - max(lent_cpus, before[2]))

    def close(self) -> None:
        """Close all input devices."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _busy_s(self) -> float:
        """Return for how long all processors together have worked since the machine started."""
        try:
            fields = (self._processes / "stat").read_text().split(maxsplit=8)[1:8]
            user, nice, system, _idle, _waiting, interrupts, soft = map(int, fields)
        except (OSError, ValueError):
            return 0.0
        return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")

    def _open_devices(self) -> None:
        there = {path for pattern in INPUT_DEVICES for path in self._devices.glob(pattern)}
        for path in there - self._open.keys():
            with suppress(OSError):  # They are for root and the group `input` alone.
                self._open[path] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _has_events(self, path: Path) -> bool:
        had = False
        try:
            while os.read(self._open[path], READ_BYTES):
                had = True
        except BlockingIOError:  # All is read.
            return had
        except OSError:  # It was unplugged.
            os.close(self._open.pop(path))
        return had
