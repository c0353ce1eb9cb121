"""The embedded driver's policy as bwrap's arguments: a pure function from spec to record.

Spec: specs/sandbox.md#embedded-driver.
"""

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.sandbox.driver import ContainerSpec
from node.sandbox.policy import (
    OPEN_FILES,
    UID_INSIDE,
    ContainerLimits,
    Pairs,
    environment_of,
    largest_file_mib,
    limits_of,
    working_dir_of,
)
from node.sandbox.runner import job_disk
from node.sandbox.runner.namespace_limits import SOCKET_BYTES

OPEN_FILES_MIN: Final = 64
"""The fewest open files that programs need, however small the memory."""
OWN_PROCESSES: Final = 2
"""bwrap outside and its init inside count as the job's: they are added to its limit."""
WALLS: Final = (
    "--unshare-user",
    "--unshare-ipc",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--disable-userns",
    "--die-with-parent",
    "--new-session",
    "--clearenv",
)
INIT: Final = "/proc/1"
"""Covered: a job has its init's user id, so it could read and write the init's memory."""
LEAKS: Final = tuple(
    f"/proc/{name}"
    for name in (
        "buddyinfo", "config.gz", "diskstats", "interrupts", "iomem", "ioports", "kallsyms",
        "kcore", "keys", "key-users", "kmsg", "kpagecgroup", "kpagecount", "kpageflags",
        "modules", "pagetypeinfo", "sched_debug", "slabinfo", "timer_list", "vmallocinfo",
    )
)  # fmt: skip
"""Files of /proc that describe the machine, not the container."""


@dataclass(frozen=True, slots=True)
class Host:
    """The properties of this machine that the arguments depend on."""

    program: Path
    """bwrap."""
    library: Path | None
    """The folder of the libraries that bwrap was built with; None: the system's own."""
    leaks: tuple[str, ...]
    """The files of LEAKS that a job could read here."""
    user: int | None
    """The user id outside, if we may choose one."""
    processes_max: int | None
    """RLIMIT_NPROC; None: control groups count processes."""
    disk: Path | None
    """The folder of the job's disk; None if it is in memory."""
    hard: frozenset[str]
    """The limits of control groups. Without "memory" the address space is limited instead."""


@dataclass(frozen=True, slots=True)
class Extra:
    """What a container gets beyond its image: devices, read-only folders and variables.

    `groups` own devices, and the job gets them; `hidden` folders of the binds are empty.
    """

    devices: tuple[str, ...] = ()
    binds: tuple[tuple[Path, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    groups: tuple[int, ...] = ()
    hidden: tuple[str, ...] = ()


def record_of(spec: ContainerSpec, host: Host, extra: Extra, cgroup: str) -> Pairs:
    """Return the fields of the launch record that only runner/bubblewrap.py needs."""
    limits = limits_of(spec)
    pairs = [("program", str(host.program))]
    pairs += [("library", str(host.library))] if host.library else []
    pairs += [("cgroup", cgroup)] if cgroup else []
    pairs += [("group", str(group)) for group in extra.groups]
    pairs += [("hard", name) for name in sorted(host.hard)]
    pairs += _numbers(limits, host, bool(spec.gpus))
    return pairs + _options(spec, limits, host, extra)


def _numbers(limits: ContainerLimits, host: Host, gpus: bool) -> Pairs:  # noqa: FBT001
    """Return the limits that the runner and the kernel enforce."""
    largest_mib = largest_file_mib(limits)
    numbers = {
        "processes": limits.processes + OWN_PROCESSES,
        "cpus": limits.cpus,
        "nofile": OPEN_FILES,
        "fsize": largest_mib << 20,
        "core": 0,
        "memlock": 64 << 10,
        "msgqueue": 0,
        "sigpending": 1024,
    }
    if host.user is not None:
        numbers["uid"] = host.user
    if host.processes_max is not None:
        numbers["nproc"] = host.processes_max
    if "memory" not in host.hard:
        numbers["nofile"] = _sockets_max(limits)
        if not gpus:  # A GPU's driver maps far more than it uses.
            numbers["as"] = limits.memory_mib << 20
    return [(key, str(value)) for key, value in numbers.items()]


def _sockets_max(limits: ContainerLimits) -> int:
    """Return how many files a process may have open if all are full sockets."""
    return max(OPEN_FILES_MIN, min(OPEN_FILES, (limits.memory_mib << 20) // SOCKET_BYTES))


def _options(spec: ContainerSpec, limits: ContainerLimits, host: Host, extra: Extra) -> Pairs:
    """Return bwrap's options in the order in which it carries them out."""
    pairs = _words(*WALLS, "--uid", UID_INSIDE, "--gid", UID_INSIDE, "--cap-drop", "ALL")
    pairs += _words("--hostname", "job")
    pairs += _bind(Path(spec.image), "/")
    pairs += _words("--proc", "/proc", "--dev", "/dev")
    pairs += _memory_folder("/dev/shm", limits.shared_mib)  # noqa: S108 - in the container.
    for device in extra.devices:
        pairs += _words("--dev-bind", device, device)
    for source, target in extra.binds:  # A GPU's libraries go below /dev: the root is read-only.
        pairs += _bind(source, target)
    for folder in extra.hidden:
        pairs += _words("--size", 4096, "--tmpfs", folder, "--remount-ro", folder)
    pairs += _words("--remount-ro", "/dev")
    pairs += _disk(limits, host.disk)
    pairs += _words("--perms", "0755", "--size", 1 << 20, "--tmpfs", "/in")
    for path, source in spec.inputs:
        pairs += _bind(source, f"/in/{path}")
    pairs += _words("--remount-ro", "/in")
    pairs += _words("--perms", "0555", "--size", 4096, "--tmpfs", INIT, "--remount-ro", INIT)
    for leak in host.leaks:  # They read as empty.
        pairs += _words("--ro-bind", "/dev/null", leak)
    for name, value in (environment_of(spec) | dict(extra.env)).items():
        pairs += _words("--setenv", name, value)
    pairs += _words("--chdir", working_dir_of(spec))
    pairs += [*_words("--seccomp"), ("seccomp", "")]
    return [*pairs, *_words("--block-fd"), ("block", ""), *_words("--info-fd"), ("info", "")]


def _disk(limits: ContainerLimits, disk: Path | None) -> Pairs:
    """Return /out, /tmp and /scratch: parts of the job's disk, or folders in memory."""
    if disk is not None:
        return [
            pair
            for part in job_disk.PARTS
            for pair in (*_words("--bind"), ("path", str(disk / part)), *_words(f"/{part}"))
        ]
    pairs = _memory_folder("/out", limits.output_mib)
    pairs += _memory_folder("/tmp", limits.temp_mib)  # noqa: S108 - in the container.
    return pairs + _memory_folder("/scratch", limits.temp_mib)


def _words(*words: str | int) -> Pairs:
    """Return arguments that are taken as they are."""
    return [("arg", str(word)) for word in words]


def _bind(source: Path, target: str) -> Pairs:
    """Return the read-only bind of a host path."""
    return [*_words("--ro-bind"), ("path", str(source)), *_words(target)]


def _memory_folder(path: str, mib: int) -> Pairs:
    """Return the options of a folder in memory, `mib` large and writable by every user."""
    return _words("--perms", "1777", "--size", mib << 20, "--tmpfs", path)


def readable(paths: Iterable[str]) -> tuple[str, ...]:
    """Return those of the files that everybody may read: only they need a mask.

    A job's user owns nothing, so the modes of the other files keep it out. Each mask costs a
    millisecond.
    """
    found = (path for path in paths if Path(path).exists())
    return tuple(path for path in found if Path(path).stat().st_mode & stat.S_IROTH)
