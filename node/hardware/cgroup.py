"""The limits that control groups set for this process, such as in a container or service.

A limit of a group applies to all groups below it, so the smallest on the way to the root counts.
Both versions of the interface are read (cgroups(7)); a machine without groups has no limits.
Spec: specs/capability.md#resources.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path("/")


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """The groups' limits; None without a limit."""

    cpu_millis: int | None
    """Processor time in thousandths of one processor."""
    memory_bytes: int | None


def cgroup_limits(root: Path = ROOT) -> CgroupLimits:
    """Return the limits of this process; `root` contains /proc and /sys."""
    cpu, memory = [], []
    for folder in _groups(root):
        cpu += [_cpu_millis(folder)]
        memory += [_number(folder / "memory.max"), _number(folder / "memory.limit_in_bytes")]
    return CgroupLimits(cpu_millis=_least(cpu), memory_bytes=_least(memory))


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, up to the roots."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):  # One empty name in version 2.
            base = root / "sys/fs/cgroup" / controller
            inside = PurePosixPath(path.lstrip("/"))
            if ".." in inside.parts:  # The group is outside the namespace that we see.
                inside = PurePosixPath()
            yield from (base / place for place in (inside, *inside.parents))


def _cpu_millis(folder: Path) -> int | None:
    words = _text(folder / "cpu.max").split()  # "150000 100000", "max 100000"
    if not words:  # Version 1: the quota is -1 if there is none.
        words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        return None
    return int(words[0]) * 1000 // int(words[1])


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None


def _text(file: Path) -> str:
    """Return the file's text; empty if it is missing or unreadable, as in many containers."""
    try:
        return file.read_text()
    except OSError:
        return ""


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)
