"""What the rows of scripts/probe_job.py do and look at, from inside a container.

Standard library alone. Each function returns a word for the table; what it adds in brackets is for
the reader.

Spec: specs/sandbox.md#probe.
"""

# ruff: noqa: PTH101, PTH108, PTH112, PTH115, PTH116, PTH123, PTH208

import array
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import resource
import signal
import socket
import stat
import termios
import time
from collections.abc import Callable, Iterable
from typing import Any

ARM = platform.machine() == "aarch64"
NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.ESRCH}
DENIED = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.EROFS}
FACTS: dict[str, Any] = {}
"""What scripts/probe.py tells of the machine and of the job: main of probe_job.py fills it."""


# --- ways of trying ---------------------------------------------------------------------------


def tried(act: Callable[..., object], *words: object) -> str:
    """Say what came of an act: done, refused or absent."""
    try:
        act(*words)
    except OSError as fault:
        name = errno.errorcode.get(fault.errno or 0, str(fault))
        return f"absent ({name})" if fault.errno in NOT_THERE else f"refused ({name})"
    return "done"


def trying(act: Callable[..., object], *words: object) -> Callable[[], str]:
    return lambda: tried(act, *words)


def calling(x86: int | None, arm: int | None, *words: object) -> Callable[[], str]:
    """Make a system call by its number: refused by the policy, or it reached the kernel."""

    def call() -> str:
        number = arm if ARM else x86
        if number is None:
            return "refused (there is no such call)"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(number, *words) != -1:
            return "done"
        fault = ctypes.get_errno()
        name = errno.errorcode.get(fault, str(fault))
        return f"refused ({name})" if fault in DENIED else f"reached ({name})"

    return call


def opening(*paths: str, mode: int = os.O_WRONLY) -> Callable[[], str]:
    """Open each, for writing if not said otherwise; say which could be opened."""

    def open_one(path: str) -> None:
        os.close(os.open(path, mode | os.O_NONBLOCK))

    return lambda: listed(path for path in paths if tried(open_one, path) == "done")


def reading(*paths: str) -> Callable[[], str]:
    """Read each; say which told anything but zeros."""
    return lambda: listed(path for path in paths if content(path).strip(b"\0\n 0"))


def limit(kind: int) -> Callable[[], str]:
    return lambda: str(resource.getrlimit(kind)[1])


def listed(found: Iterable[str]) -> str:
    return " ".join(sorted(set(found))) or "none"


def content(path: str, most: int = 1 << 20) -> bytes:
    """Return what a file gives at once, nothing if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(descriptor, most)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


# --- who we are -------------------------------------------------------------------------------


def status(field: str) -> str:
    lines = content("/proc/self/status").decode().splitlines()
    return next((line.split(None, 1)[1] for line in lines if line.startswith(f"{field}:")), "none")


def capabilities() -> str:
    kinds = ("Inh", "Prm", "Eff", "Bnd", "Amb")
    return listed(f"{kind}={held}" for kind in kinds if (held := status(f"Cap{kind}").strip("0")))


def user_map() -> str:
    whole = content("/proc/self/uid_map").split() == [b"0", b"0", b"4294967295"]
    return "the machine's" if whole else "the container's"


def own_namespaces() -> str:
    """Name the namespaces that are the machine's too."""
    theirs = FACTS["namespaces"]
    return listed(kind for kind in theirs if os.readlink(f"/proc/self/ns/{kind}") == theirs[kind])


def variables() -> str:
    """Name the variables that nobody of the job's owner has set."""
    ours = {"HOME", "HOSTNAME", "LANG", "LC_CTYPE", "OMP_NUM_THREADS", "PATH", "PWD", "TMPDIR"}
    return listed(f"{key}={os.environ[key]}" for key in os.environ.keys() - ours)


def strange_descriptors() -> str:
    """Name those beyond the standard three, the pipe to our parent and the one that lists them."""
    return listed(name for name in os.listdir("/proc/self/fd") if int(name) > 4)


# --- files ------------------------------------------------------------------------------------


def writable() -> list[str]:
    """Return the mount points below which a file can be made."""
    rows = [line.split() for line in content("/proc/self/mountinfo").decode().splitlines()]
    return sorted({row[4] for row in rows if os.path.isdir(row[4]) and _takes_files(row[4])})


def _takes_files(folder: str) -> bool:
    path = f"{folder}/probe-{os.getpid()}"
    if tried(lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))) != "done":
        return False
    os.unlink(path)
    return True


def without_flag(flag: int) -> str:
    return listed(place for place in writable() if not os.statvfs(place).f_flag & flag)


def unsized() -> str:
    """Name the writable folders that may hold more than the job may have."""
    most = max(FACTS["memory_mib"], FACTS["output_mib"], FACTS["disk_mib"]) << 20
    held = {place: os.statvfs(place) for place in writable()}
    return listed(place for place, fs in held.items() if fs.f_blocks * fs.f_frsize > most)


def uncounted() -> str:
    """Name the writable folders where the number of files has no bound of its own."""
    return listed(place for place in writable() if not 0 < os.statvfs(place).f_files <= 1 << 17)


def change_input() -> None:
    os.chmod("/in/scripts", 0o777)


def set_user_id() -> str:
    """Make a program of ours that sets the user id; the file system must ignore the bit."""
    path = "/tmp/set-user-id"
    os.close(os.open(path, os.O_CREAT, 0o700))
    os.chmod(path, 0o4711)
    ignored = os.statvfs(path).f_flag & os.ST_NOSUID
    return "ignored" if ignored or not os.stat(path).st_mode & stat.S_ISUID else "taken"


# --- /proc and devices ------------------------------------------------------------------------


def words_of_the_machine(*names: str) -> Callable[[], str]:
    """Look in files of every process for the secret word, which is in the node's paths."""

    def look() -> str:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
        secret = FACTS["secret"].encode()
        return listed(
            name for process in processes for name in names
            if secret in content(f"/proc/{process}/{name}")
        )  # fmt: skip

    return look


def processes() -> str:
    count = sum(name.isdigit() for name in os.listdir("/proc"))
    return "its own" if count <= 4 else f"{count}"


def change_program() -> None:
    os.chmod("/proc/1/exe", os.stat("/proc/1/exe").st_mode & 0o7777)


def patch_first_process() -> None:
    """Write into its memory what stands there."""
    if not (maps := content("/proc/1/maps")):
        raise PermissionError(errno.EACCES, "no map of the memory")
    address = int(maps.split(b"-")[0], 16)
    memory = os.open("/proc/1/mem", os.O_RDWR)
    os.pwrite(memory, os.pread(memory, 16, address), address)


def outlive_the_node() -> None:
    """Ask to be killed after the node when memory is short."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(FACTS["oom_score"] - 1))


def strange_devices() -> str:
    known = {
        "full", "null", "zero", "random", "urandom", "tty", "console", "core", "ptmx", "pts", "shm",
        "mqueue", "fd", "stdin", "stdout", "stderr",
    }  # fmt: skip
    return listed(set(os.listdir("/dev")) - known)


def type_for_others() -> None:
    _, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSTI, array.array("b", b"x"))


# --- network ----------------------------------------------------------------------------------


def connect(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(2)
        sock.connect(address)


def reach_the_machine() -> None:
    connect(socket.AF_INET, ("127.0.0.1", FACTS["port"]))


def reach_the_machines_socket() -> None:
    connect(socket.AF_UNIX, "\0" + FACTS["secret"])


def reach_oneself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect(socket.AF_INET, server.getsockname())


def reach_the_proxy() -> None:
    connect(socket.AF_INET, ("127.0.0.1", 3128))


def by_the_proxy(place: str) -> Callable[[], str]:
    """Ask the node's proxy for a place; the word is the status of its answer."""

    def ask() -> str:
        with socket.create_connection(("127.0.0.1", 3128), 10) as sock:
            head = f"CONNECT {place.format(**FACTS)} HTTP/1.1\r\n\r\n"
            sock.sendall(head.encode())
            words = sock.recv(4096).split(b"\r\n")[0].decode().split(" ", 2)
            return f"{words[1]} ({words[2]})"

    return ask


def name_servers() -> str:
    lines = content("/etc/resolv.conf").decode().splitlines()
    return listed(line for line in lines if line.split()[:1] in (["nameserver"], ["search"]))


def routes() -> str:
    lines = content("/proc/net/route").decode().splitlines()[1:]
    return listed(line.split()[0] for line in lines)


# --- limits -----------------------------------------------------------------------------------


def raise_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
    except ValueError as fault:  # Python's word for EPERM.
        raise PermissionError(errno.EPERM, str(fault)) from fault


def open_many() -> str:
    """Open files until no more can be."""
    held: list[int] = []
    while len(held) < 1 << 14 and tried(lambda: held.append(os.open("/dev/null", 0))) == "done":
        continue
    for descriptor in held:
        os.close(descriptor)
    return "bounded" if len(held) <= 1024 else str(len(held))


def fork_many() -> str:
    """Make processes until no more can be: beside ours there is the one that waits for us."""
    children: list[int] = []
    while len(children) < FACTS["processes"] * 4:
        try:
            child = os.fork()
        except OSError:
            break
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    count = len(children) + 2
    return "bounded" if count <= FACTS["processes"] else str(count)


def lock_memory() -> None:
    """Lock more pages than 64 KiB."""
    libc = ctypes.CDLL(None, use_errno=True)
    pages = mmap.mmap(-1, 1 << 20)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(1 << 20)) == -1:
        raise OSError(ctypes.get_errno(), "mlock")


# --- children ---------------------------------------------------------------------------------


def call_as_i386() -> str:
    """Call getpid by the 32-bit entry of x86-64, in a child: it must be killed."""
    if platform.machine() != "x86_64":
        return "killed (there is no such entry)"
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    child = os.fork()
    if child == 0:
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
        os._exit(0)
    _, code_of_exit = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(code_of_exit) else "done"


def leave_a_daemon() -> str:
    """Leave a process behind that only SIGKILL ends; scripts/probe.py looks for it afterwards."""
    if os.fork() == 0:
        if os.fork() == 0:
            become_a_daemon(f"sleep-{FACTS['secret']}")
        os._exit(0)
    os.wait()
    return "done"


def become_a_daemon(name: str) -> None:
    """Sleep under this name in a session of its own, deaf to every signal but SIGKILL."""
    os.setsid()
    for number in range(1, 32):
        if number not in {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
            signal.signal(number, signal.SIG_IGN)
    os.execv("/bin/sleep", [name, "600"])
