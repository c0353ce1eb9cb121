"""The abuse battery: jobs that take all they can get, and what the machine felt of it.

Each attack says how much it got; more than its bound is a finding, and so is what outlives it. What
the machine felt depends on its other load, and is shown, not judged.
Spec: specs/sandbox.md#probe.
"""

import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from node.sandbox.policy import OPEN_FILES
from protocol.values.errors import SandboxUnavailable
from scripts.abuse_job import GREED_MIB
from scripts.attack_rig import Ended, Rig, workload_of

SCRIPTS: Final = ("abuse_job.py", "probe_acts.py")
MEMORY_MIB: Final = 64
DISK_MIB: Final = 128
OUTPUT_MIB: Final = 16
LOG_MIB: Final = 1
PROCESSES: Final = 32
TIMEOUT_S: Final = 8
UNHURRIED_S: Final = 60
"""The time-out of an attack that has to end by itself, beside all others on a busy machine."""
LATE_S: Final = 90
"""So long after its time-out a container has to be gone, whatever the load of the machine."""
SAMPLE_S: Final = 0.05
CPU_SLACK: Final = 1.5
OUTPUTS_MAX: Final = 10_100
"""Files and folders that may be kept."""
ANY: Final = ("exited", "memory", "disk", "timeout")
DISK_BOUND_MIB: Final = DISK_MIB + DISK_MIB // 16 + MEMORY_MIB // 2
"""The disk, with what a file system has for its tables; and /dev/shm."""
KERNEL_MIB: Final = 16
"""What an attack may hold beyond its bound: Python itself, and what is under way."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One job of scripts/abuse_job.py, how much of its unit it may get, and how it may end."""

    name: str
    bound: int
    unit: str
    ends: tuple[str, ...] = ANY
    timeout_s: int = TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Difference:
    """What an attack may get instead where all conditions hold, and why that is no finding."""

    when: str
    name: str
    bound: int
    why: str


ATTACKS: Final = (
    Attack("processes", PROCESSES, "processes"),
    Attack("zombies", PROCESSES, "processes"),
    Attack("memory", MEMORY_MIB, "MiB"),
    Attack("memory_files", MEMORY_MIB, "MiB"),
    Attack("socket_buffers", MEMORY_MIB + KERNEL_MIB, "MiB"),
    Attack("pipe_buffers", MEMORY_MIB + KERNEL_MIB, "MiB"),
    Attack("disk_out", DISK_BOUND_MIB, "MiB"),
    Attack("disk_tmp", DISK_BOUND_MIB, "MiB"),
    Attack("disk_scratch", DISK_BOUND_MIB, "MiB"),
    Attack("empty_files", MEMORY_MIB << 11, "files"),  # The kernel takes more than 512 bytes each.
    Attack("descriptors", OPEN_FILES * (PROCESSES + 2), "files"),
    Attack("inotify", 8, "instances"),
    Attack("daemons", 8, "processes", ("timeout",)),
    Attack("daemons_alone", 8, "processes", ("exited",), UNHURRIED_S),
    Attack("log", 64, "MiB"),
    Attack("processors", 4, "processes"),
    Attack("outputs", 12_000, "files"),
)


WATCHED: Final = "the runner adds up four times a second, and then ends the job"
USERS_INOTIFY: Final = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
DIFFERENCES: Final = (
    Difference("embedded, root", "inotify", USERS_INOTIFY, "the job has a user id of its own"),
    Difference("docker", "inotify", USERS_INOTIFY, "the engine's jobs share those of a user"),
    Difference("soft disk", "disk_out", GREED_MIB, WATCHED),
    Difference("soft disk", "disk_tmp", GREED_MIB, WATCHED),
    Difference("soft disk", "disk_scratch", GREED_MIB, WATCHED),
    Difference("soft pids", "processes", PROCESSES + 1, "bwrap takes less than it may"),
    Difference("soft pids", "zombies", PROCESSES + 1, "bwrap takes less than it may"),
)


@dataclass(slots=True)
class Felt:
    """What the machine felt: the worst of each while the attack ran."""

    memory_mib: int = 0
    processes: int = 0
    disk_mib: int = 0
    stall_ms: int = 0
    """How late a task was that wants to run 20 times a second."""


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one attack; `fault` says why it is a finding."""

    name: str
    end: str
    wall_ms: int
    held: int
    bound: int
    unit: str
    felt: Felt
    fault: str
    why: str
    """Why another bound counts here than elsewhere, if it does."""

    @property
    def ok(self) -> bool:
        """Whether the sandbox held."""
        return not self.fault


async def run(opened: Rig) -> list[Row]:
    """Run one attack after the other; return a row for each."""
    rows = []
    for attack in ATTACKS:
        print(f"{opened.driver.name}: {attack.name} ...", file=sys.stderr)
        rows.append(await run_one(opened, attack))
    return rows


async def run_at_once(opened: Rig) -> list[Row]:
    """Run all attacks at the same time: what the machine felt is then that of all."""
    rows: dict[str, Row] = {}

    async def keep(attack: Attack) -> None:
        rows[attack.name] = await run_one(opened, attack)

    async with trio.open_nursery() as nursery:
        for attack in ATTACKS:
            nursery.start_soon(keep, attack)
    return [rows[attack.name] for attack in ATTACKS]


def show(rows: list[Row]) -> None:
    """Print the table."""
    print(f"each a job of {MEMORY_MIB} MiB of memory, {DISK_MIB} of disk, {PROCESSES} processes\n")
    print(f"{'':14} {'':13} {'':6} {'':7} {'':8} {'':9}   the machine felt:")
    print(f"{'attack':14} {'end':13} {'wall s':>6} {'held':>7} {'allowed':>8} {'':9}"
          f" {'MiB':>6} {'processes':>9} {'disk MiB':>8} {'stall ms':>8}")  # fmt: skip
    for row in rows:
        felt, note = row.felt, f"FINDING: {row.fault}" if row.fault else row.why
        print(f"{row.name:14} {row.end:13} {row.wall_ms / 1000:6.1f} {row.held:7} {row.bound:8}"
              f" {row.unit:9} {felt.memory_mib:6} {felt.processes:9} {felt.disk_mib:8}"
              f" {felt.stall_ms:8}  {note}")  # fmt: skip
    print(f"\n{len(rows)} attacks, {sum(not row.ok for row in rows)} findings")


async def run_one(opened: Rig, attack: Attack) -> Row:
    """Run one attack, and look at what it got and left."""
    workload = workload_of(
        MEMORY_MIB, DISK_MIB, output_mib=OUTPUT_MIB, processes=PROCESSES,
        timeout_ms=attack.timeout_s * 1000, log_mib=LOG_MIB,
    )  # fmt: skip
    attack, why = _bounded(opened, attack)
    code = f"from scripts import abuse_job; abuse_job.main({attack.name!r})"
    daemons = f"{opened.daemons}-{attack.name}"
    async with _felt(opened.folder) as felt:
        try:
            ended = await opened.run(code, SCRIPTS, workload, daemons)
        except SandboxUnavailable as fault:
            why = f"it did not start: {fault}"
            return Row(attack.name, "none", 0, 0, attack.bound, attack.unit, felt, why, "")
    left = await opened.processes_left(daemons)
    fault = fault_of(opened, attack, ended) or (f"left behind: {left}" if left != "none" else "")
    return Row(
        attack.name, f"{ended.exit.reason} {ended.exit.exit_code}", ended.wall_ms,
        held_in(ended.log), attack.bound, attack.unit, felt, fault, why,
    )  # fmt: skip


def _bounded(opened: Rig, attack: Attack) -> tuple[Attack, str]:
    """Return the attack with the bound that counts here, and why."""
    for one in DIFFERENCES:
        if one.name == attack.name and set(one.when.split(", ")) <= opened.conditions:
            return replace(attack, bound=one.bound), one.why
    return attack, ""


def held_in(log: str) -> int:
    """Return the largest number that the attack said it holds."""
    return max((int(found) for found in re.findall(r"held (\d+)", log)), default=0)


def fault_of(opened: Rig, attack: Attack, ended: Ended) -> str:
    """Return why this is a finding; empty if the sandbox held."""
    if held_in(ended.log) > attack.bound:
        return "more than allowed"
    if ended.exit.reason not in attack.ends:
        return f"it ended otherwise than by {' or '.join(attack.ends)}: {ended.exit.detail}"
    if ended.wall_ms > (attack.timeout_s + LATE_S) * 1000:
        return "it ended too late"
    if len(ended.log) > (LOG_MIB << 20) + 1000:
        return "its log is too long"
    used, wall = ended.exit.cpu_ms or 0, ended.exit.usage_ms
    if (
        attack.name == "processors"
        and used > CPU_SLACK * wall
        and "soft cpu" not in opened.conditions
    ):
        return f"it computed {used} ms in {wall} ms"
    return _fault_of_outputs(ended.outputs)


def _fault_of_outputs(folder: Path) -> str:
    """Return what is wrong with the outputs that were kept."""
    files = [Path(place) / name for place, folders, names in os.walk(folder)
             for name in [*folders, *names]]  # fmt: skip
    if odd := [
        path.name for path in files if path.is_symlink() or not (path.is_file() or path.is_dir())
    ]:
        return f"no regular files: {odd[:3]}"
    if sum(path.stat().st_size for path in files) > OUTPUT_MIB << 20 or len(files) > OUTPUTS_MAX:
        return "more outputs than allowed"
    return "" if all(path.name.isprintable() for path in files) else "a name that no terminal bears"


@asynccontextmanager
async def _felt(folder: Path) -> AsyncIterator[Felt]:
    """Watch the machine as long as the context lasts."""
    felt, before = Felt(), _state(folder)

    async def watch() -> None:
        while True:
            wanted = time.monotonic() + SAMPLE_S
            await trio.sleep_until(trio.current_time() + SAMPLE_S)
            late_ms = round((time.monotonic() - wanted) * 1000)
            memory, processes, disk = _state(folder)
            felt.memory_mib = max(felt.memory_mib, before[0] - memory)
            felt.processes = max(felt.processes, processes - before[1])
            felt.disk_mib = max(felt.disk_mib, before[2] - disk)
            felt.stall_ms = max(felt.stall_ms, late_ms)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield felt
        nursery.cancel_scope.cancel()


def _state(folder: Path) -> tuple[int, int, int]:
    """Return free memory in MiB, the number of processes, free disk in MiB."""
    rows = Path("/proc/meminfo").read_text().splitlines()
    free_kib = next(int(row.split()[1]) for row in rows if row.startswith("MemAvailable"))
    processes = sum(name.isdigit() for name in os.listdir("/proc"))  # noqa: PTH208 - 20 times a second.
    disk = os.statvfs(folder)
    return free_kib >> 10, processes, disk.f_bavail * disk.f_frsize >> 20
