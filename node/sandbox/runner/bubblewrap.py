"""A container of the embedded driver: bwrap in a control group, under a user id of its own.

The arguments come from the launch record, in order: `arg` is literal, `path` is a host path to
bind, `file` is one to open, `block` and `info` are our pipes. node/sandbox/bwrap.py writes them.

Spec: specs/sandbox.md#embedded-driver.
"""

# pathlib takes 10 ms to import.

import fcntl
import os
import resource
import select
import time

from node.sandbox.runner import (
    cgroups,
    egress,
    init,
    job_disk,
    log_file,
    namespace_limits,
    priority,
    process_limits,
    processes,
    restore,
    sealed,
)
from node.sandbox.runner.container import Container, StartFailed, Usage
from node.sandbox.runner.records import SECCOMP, Fields
from node.sandbox.runner.soft_memory import ALL_FOLDERS, MEMORY_FOLDERS, SoftMemory
from node.sandbox.runner.staging import Staging

PIPE_BYTES = 1 << 20
SETUP_SECONDS = 20.0
DEATH_MS = 5_000
OUT = "out"
MARK = "bwrap: "
"""The prefix of bwrap's own lines."""


class Pipes:
    """The pipes between the runner and bwrap, the reading end first."""

    __slots__ = ("block", "fault", "info", "log")

    def __init__(self) -> None:
        self.block = os.pipe2(os.O_CLOEXEC)
        self.info = os.pipe2(os.O_CLOEXEC)
        self.log = os.pipe2(os.O_CLOEXEC)
        self.fault = os.pipe2(os.O_CLOEXEC)


class Bubblewrap(Container):
    """bwrap, its init and the job below it."""

    __slots__ = (
        "group",
        "init",
        "init_end",
        "namespace",
        "out",
        "paused",
        "process",
        "sink",
        "soft",
        "status",
        "used_cpu_ms",
    )

    def __init__(self, process: int, group: cgroups.Group, log: int) -> None:
        self.process = process
        self.group = group
        self.init = 0
        self.init_end = -1
        self.namespace = ""
        self.out = -1
        self.paused = False
        self.status: int | None = None
        self.used_cpu_ms = 0
        self.soft: SoftMemory | None = None
        self.log_source = log
        self.exit_source = os.pidfd_open(process)
        self.sink = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        os.set_blocking(log, False)
        widen(log)

    def read_log(self) -> bytes | None:
        try:
            return os.read(self.log_source, log_file.CHUNK) or None
        except BlockingIOError:
            return b""

    def drain_log(self) -> bool:
        return log_file.drain_pipe(self.log_source, self.sink)

    def exit_code(self) -> int | None:
        if self.status is None:
            process, status, used = os.wait4(self.process, os.WNOHANG)
            if process == 0:
                return None
            code = os.waitstatus_to_exitcode(status)
            self.status = code if code >= 0 else 128 - code
            self.used_cpu_ms = int((used.ru_utime + used.ru_stime) * 1000)
        return self.status

    def excess(self) -> tuple[str, str] | None:
        return self.soft.excess() if self.soft else None

    def members(self) -> list[int]:
        return processes.members_of(self.namespace)

    def pause(self) -> bool:
        if self.group.freeze():
            return True
        if self.paused:  # A timer or a pipe may send SIGCONT: look again.
            return processes.at_rest(self.namespace)
        self.paused = True
        return processes.stop(self.namespace)

    def resume(self) -> bool:
        self.group.thaw()
        if self.paused:
            processes.resume(self.namespace)
        self.paused = False
        return True

    def terminate(self) -> None:
        processes.terminate_children(self.namespace, self.init)

    def kill(self) -> None:
        if self.init_end >= 0 and not _ends(self.init_end, 0):  # The process id is not reused yet.
            cgroups.kill_process(self.init)
        if self.status is None:
            cgroups.kill_process(self.process)
        self.group.kill()

    def usage(self) -> Usage:
        if self.init_end >= 0 and not _ends(self.init_end, DEATH_MS):
            cgroups.kill_process(self.init)  # The whole PID namespace dies with its init.
            _ends(self.init_end, DEATH_MS)
        self.group.kill()  # A second safeguard: the group should be empty.
        cpu_ms = self.group.cpu_ms()
        return Usage(
            self.used_cpu_ms if cpu_ms is None else cpu_ms,
            self.group.memory_peak_mib(),
            self.group.out_of_memory_kills() > 0,
        )

    def complaint(self, line: str) -> str:
        return line.removeprefix(MARK) if line.startswith(MARK) else ""

    def outputs(self) -> int:
        return self.out

    def close(self) -> None:
        for descriptor in (self.out, self.init_end):
            if descriptor >= 0:
                os.close(descriptor)
        self.group.remove()
        job_disk.leave()


def start(fields: Fields) -> Bubblewrap:
    """Start the container of the launch record; StartFailed says in one line why not."""
    job_disk.open_disk(fields)
    group = cgroups.Group({}, set())
    if fields.one("cgroup"):
        numbers = [fields.number(key) for key in ("memory_mib", "processes", "cpus")]
        group = cgroups.create(fields.one("cgroup"), numbers[0], numbers[1], numbers[2])
        cgroups.weigh(group, fields.one("cgroup"), fields.number("cpu_weight", priority.WHOLE))
        if not group.hard.issuperset(fields.every("hard")):
            group.remove()
            raise StartFailed("the control group's limits cannot be set; start the node again")
    pipes = Pipes()
    process = os.fork()
    if process == 0:
        _become_bwrap(fields, group, pipes)
    for descriptor in (pipes.block[0], pipes.info[1], pipes.log[1], pipes.fault[1]):
        os.close(descriptor)
    container = Bubblewrap(process, group, pipes.log[0])
    try:
        _await_setup(container, fields, pipes)
        _limit_processes(container, fields)
        _set_quotas(container, fields)
        egress.offer(container, container.init, fields)
        restore.restore(container.out, fields, container.group)
        _note_init(container)
    except StartFailed:
        container.kill()
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        group.remove()
        raise
    os.write(pipes.block[1], b"1")
    os.close(pipes.block[1])
    return container


def _await_setup(container: Bubblewrap, fields: Fields, pipes: Pipes) -> None:
    """Return when the container's namespaces are set up and its /out is open."""
    fault = _read_all(pipes.fault[0])
    if fault:
        raise StartFailed(fault)
    info = _read_all(pipes.info[0])
    _, found, rest = info.partition('"child-pid":')
    if not found:
        raise StartFailed(_complaint(container))
    container.init = int(rest.split(",")[0].split("}")[0])
    try:
        container.init_end = os.pidfd_open(container.init)
    except ProcessLookupError:
        raise StartFailed(_complaint(container)) from None
    container.namespace = processes.namespace_of(container.init)
    # Now, since the kernel waits for its other processors while bwrap continues its setup.
    for process in (container.process, container.init):
        _adopt(container.group, process)
    deadline = time.monotonic() + SETUP_SECONDS
    while container.exit_code() is None and time.monotonic() < deadline:
        container.out = _open_out(container.init, fields)
        if container.out >= 0:
            return
        time.sleep(0.0005)
    raise StartFailed(_complaint(container))


def _adopt(group: cgroups.Group, process: int) -> None:
    """Complete a process's move into the group; one that has just died reports its own error."""
    try:
        group.adopt(process)
    except ProcessLookupError:
        return
    except OSError as fault:
        raise StartFailed(f"the control group accepts no process: {fault.strerror}") from fault


def _open_out(init: int, fields: Fields) -> int:
    """Return a descriptor of the container's /out, -1 until it is mounted.

    The descriptor keeps a file system in memory alive after the container's death.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(f"/proc/{init}/root/{OUT}", flags)
    except OSError:
        return -1
    if _is_out(descriptor, fields):
        return descriptor
    os.close(descriptor)
    return -1


def _is_out(descriptor: int, fields: Fields) -> bool:
    """Return whether a folder is the job's /out, and not that of the image or of the machine."""
    if job_disk.is_on_disk(fields):
        return os.path.samestat(os.fstat(descriptor), os.stat(job_disk.OUT))  # noqa: PTH116
    room = os.statvfs(descriptor)
    return room.f_blocks * room.f_frsize == fields.number("output_mib") << 20


def _ends(process: int, within_ms: int) -> bool:
    """Return whether the process behind the descriptor is dead, or dies within that time."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(within_ms))


def _complaint(container: Bubblewrap) -> str:
    """Return bwrap's last error message."""
    poll = select.poll()
    poll.register(container.log_source, select.POLLIN)
    poll.poll(1000)
    lines = (container.read_log() or b"").decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "bwrap ended without a message"


def _become_bwrap(fields: Fields, group: cgroups.Group, pipes: Pipes) -> None:
    """In the child: set the limits and the user id, then execute bwrap. Never returns."""
    try:
        if group.folders:
            group.join()
        priority.take(fields)
        process_limits.take(fields)
        program = sealed.copy(fields.one("program"))
        stage = Staging(
            [*fields.every("path"), *fields.every("library")], hidden=bool(fields.one("uid"))
        )
        libraries = ":".join(stage.place(path) for path in fields.every("library"))
        arguments = _options(fields, stage, pipes)
        _take_user(fields)
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (pipes.log[1], 1), (pipes.log[1], 2)):
            os.dup2(source, target)
        command = ["bwrap", "--args", str(arguments), "--", *fields.every("command")]
        environment = {"LD_LIBRARY_PATH": libraries} if libraries else {}
        os.execve(program, command, environment)  # noqa: S606 - bwrap, not a shell.
    except OSError as fault:
        place = f" ({fault.filename})" if fault.filename else ""
        os.write(pipes.fault[1], f"cannot start bwrap: {fault.strerror}{place}".encode())
    finally:
        os._exit(127)


def _limit_processes(container: Bubblewrap, fields: Fields) -> None:
    """Limit the processes of a container without a user of its own, before the job begins.

    RLIMIT_NPROC counts a user's processes per user namespace (Linux 5.14): a limit set inside
    counts only the container's processes; a limit set outside would count all of our user's.
    """
    if fields.one("nproc") and not fields.one("uid"):
        limit = fields.number("nproc")
        resource.prlimit(container.init, resource.RLIMIT_NPROC, (limit, limit))


def _set_quotas(container: Bubblewrap, fields: Fields) -> None:
    """Replace the limits of a separate user id and of control groups by quotas and by watching."""
    soft, shared = "memory" not in container.group.hard, not fields.one("uid")
    settings = (namespace_limits.TCP if soft else {}) | (namespace_limits.INOTIFY if shared else {})
    try:
        if settings:
            namespace_limits.bound(container.init, settings)
        if soft:
            folders = MEMORY_FOLDERS if job_disk.is_on_disk(fields) else ALL_FOLDERS
            container.soft = SoftMemory(container.init, fields.number("memory_mib"), folders)
    except OSError as fault:
        dead = container.exit_code() is not None
        raise StartFailed(_complaint(container) if dead else fault.strerror) from fault


def _note_init(container: Bubblewrap) -> None:
    """Record the init before the job begins, so that others find the container if we die."""
    try:
        init.note(container.init)
    except ProcessLookupError:
        raise StartFailed(_complaint(container)) from None
    except OSError as fault:
        raise StartFailed(f"cannot write to the run folder: {fault.strerror}") from fault


def _take_user(fields: Fields) -> None:
    """Become the job's own user, if we may choose one."""
    if fields.one("uid"):
        user = fields.number("uid")
        os.setgroups([int(group) for group in fields.every("group")])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def _options(fields: Fields, stage: Staging, pipes: Pipes) -> int:
    """Return a descriptor of bwrap's options, so that /proc/1/cmdline shows no host path."""
    texts = []
    for key, value in fields.pairs:
        match key:
            case "arg":
                texts.append(value)
            case "path":
                texts.append(stage.place(value))
            case "seccomp":
                texts.append(str(_inherit(os.open(SECCOMP, os.O_RDONLY))))
            case "block":
                texts.append(str(_inherit(pipes.block[0])))
            case "info":
                texts.append(str(_inherit(pipes.info[1])))
            case _:
                continue
    descriptor = os.memfd_create("options")
    os.write(descriptor, os.fsencode("".join(f"{text}\0" for text in texts)))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return _inherit(descriptor)


def _inherit(descriptor: int) -> int:
    """Make the descriptor inheritable by bwrap."""
    os.set_inheritable(descriptor, True)
    return descriptor


def _read_all(descriptor: int) -> str:
    """Read to the end and close."""
    pieces = []
    while piece := os.read(descriptor, 4096):
        pieces.append(piece)
    os.close(descriptor)
    return b"".join(pieces).decode(errors="replace")


def widen(pipe: int) -> None:
    """Give a pipe the largest capacity that an ordinary user may set."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        return
