"""Control groups of version 1, version 2 or neither: every limit that the kernel lets us set.

A group has one folder per hierarchy. A limit that could not be set is not in `hard`; the drivers'
self-test then shows which limits hold.

Spec: specs/sandbox.md#limits.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH103, PTH106, PTH110, PTH112, PTH123

import os
import time

ROOT = "/sys/fs/cgroup"
CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")
PERIOD_US = 100_000
KILL_ROUNDS = 200
MAKE_ROUNDS = 3
ROUND_SECONDS = 0.005
OURS = "mutirao/"  # All of the node's groups are below this one.
MARK_CHARACTERS = 32


OWNER_LENGTH_MIN = 12
"""A shorter name does not identify a container."""


class Group:
    """The folders of one control group, by controller; "" is version 2's, for all of them."""

    __slots__ = ("folders", "hard")

    def __init__(self, folders: dict[str, str], hard: set[str]) -> None:
        self.folders = folders
        self.hard = hard

    def join(self) -> None:
        """Move the calling process, which has one thread, in; OSError if the kernel refuses.

        In version 1 a thread that moves itself saves a wait of 10 ms for the kernel's other
        processors. With limits of version 1, `adopt` completes the move.
        """
        for controller, folder in self.folders.items():
            if controller:
                _write(folder + "/tasks", "0")
        if self.folders.keys() == {""}:
            _write(self.folders[""] + "/cgroup.procs", "0")

    def adopt(self, process: int) -> None:
        """Move a process that has joined into version 2's group beside version 1's, if any.

        That group sets no limit: it serves to kill all at once. OSError if the kernel refuses.
        """
        if "" in self.folders and len(self.folders) > 1:
            _write(self.folders[""] + "/cgroup.procs", str(process))

    def members(self) -> list[int]:
        """Return the process ids in the group."""
        found: set[int] = set()
        for folder in set(self.folders.values()):
            found.update(int(line) for line in _read(folder + "/cgroup.procs").split())
        return sorted(found)

    def kill(self) -> None:
        """Kill all members, including new forks; return when the group is empty.

        A group that holds this process is never killed: it would be the root group.
        """
        assert os.getpid() not in self.members(), (
            "a group that contains the runner is not a container's"
        )
        if "" in self.folders:
            _try_write(self.folders[""] + "/cgroup.kill", "1")
        for _ in range(KILL_ROUNDS):
            members = self.members()
            if not members:
                return
            for member in members:
                kill_process(member)
            time.sleep(ROUND_SECONDS)

    def freeze(self) -> bool:
        """Freeze all members and their forks; False if the kernel cannot (version 2 can)."""
        if "" not in self.folders or not _try_write(self.folders[""] + "/cgroup.freeze", "1"):
            return False
        for _ in range(KILL_ROUNDS):
            if _field(self.folders[""] + "/cgroup.events", "frozen"):
                return True
            time.sleep(ROUND_SECONDS)
        return False

    def thaw(self) -> None:
        """Resume all members."""
        if "" in self.folders:
            _try_write(self.folders[""] + "/cgroup.freeze", "0")

    def out_of_memory_kills(self) -> int:
        """Return how often the kernel killed a member because of the memory limit."""
        if "memory" in self.folders:
            return _field(self.folders["memory"] + "/memory.oom_control", "oom_kill")
        return _field(self.folders.get("", "/nowhere") + "/memory.events", "oom_kill")

    def cpu_ms(self) -> int | None:
        """Return the CPU time that the members used, None if it is not counted."""
        if "cpuacct" in self.folders:
            text = _read(self.folders["cpuacct"] + "/cpuacct.usage")
            return int(text) // 1_000_000 if text else None
        used_us = _field(self.folders.get("", "/nowhere") + "/cpu.stat", "usage_usec")
        return used_us // 1000 if used_us else None

    def memory_peak_mib(self) -> int | None:
        """Return the most memory that the members had at a time, rounded up; None if unknown."""
        version_1 = self.folders.get("memory", "/nowhere") + "/memory.max_usage_in_bytes"
        text = _read(version_1) or _read(self.folders.get("", "/nowhere") + "/memory.peak")
        return (int(text) + 2**20 - 1) // 2**20 if text else None

    def remove(self) -> None:
        """Remove the folders. Dead members leave them with a short delay."""
        for folder in set(self.folders.values()):
            for _ in range(KILL_ROUNDS):
                if _try_rmdir(folder):
                    break
                time.sleep(ROUND_SECONDS)


def create(path: str, memory_mib: int, processes: int, cpus: int, root: str = ROOT) -> Group:
    """Make a group with these limits wherever we may; first remove a leftover of the same path."""
    stale = find(path, root)
    stale.kill()
    stale.remove()
    memory, quota = str(memory_mib << 20), cpus * PERIOD_US
    if os.path.exists(root + "/cgroup.controllers"):
        return _create_2(path, (memory, str(processes), f"{quota} {PERIOD_US}"), root)
    group = Group({}, set())
    for controller in (*CONTROLLERS, "unified"):  # The last on hybrid machines, for cgroup.kill.
        hierarchy = f"{root}/{controller}"
        if os.path.exists(hierarchy + "/cgroup.procs") and _try_make(f"{hierarchy}/{path}"):
            name = "" if controller == "unified" else controller
            group.folders[name] = f"{hierarchy}/{path}"
    limits = (
        ("memory", "memory.limit_in_bytes", memory),
        ("pids", "pids.max", str(processes)),
        ("cpu", "cpu.cfs_quota_us", str(quota)),
    )
    for controller, file, value in limits:
        if controller in group.folders and _try_write(f"{group.folders[controller]}/{file}", value):
            group.hard.add(controller)
    if "memory" in group.hard:  # Without swap accounting there is no such file, and no harm.
        _try_write(group.folders["memory"] + "/memory.memsw.limit_in_bytes", memory)
    return group


def weigh(group: Group, path: str, weight: int) -> None:
    """Let all containers of this machine's nodes together weigh so many percent of other programs.

    A weight counts among the groups beside a group: only that of the topmost one counts beside
    others' programs.
    """
    tops = {name: f"{folder.removesuffix(path)}{OURS}" for name, folder in group.folders.items()}
    if "cpu" in tops:
        _try_write(tops["cpu"] + "cpu.shares", str(max(2, weight * 1024 // 100)))
    elif "" in tops:
        _try_write(tops[""] + "cpu.weight", str(max(1, weight)))
        _try_write(tops[""] + "io.weight", str(max(1, weight)))


def find(path: str, root: str = ROOT) -> Group:
    """Return the group as far as it exists."""
    assert path.startswith(OURS), "only the node's own groups are changed"
    assert ".." not in path
    if os.path.exists(root + "/cgroup.controllers"):
        made = [f"{base}/{path}" for base in bases_2(root) if os.path.isdir(f"{base}/{path}")]
        return Group({"": made[0]} if made else {}, set())
    names = [*CONTROLLERS, "unified"]
    places = {("" if name == "unified" else name): f"{root}/{name}/{path}" for name in names}
    return Group({k: v for k, v in places.items() if os.path.isdir(v)}, set())


def of_process(process: int, owner: str, root: str = ROOT) -> Group:
    """Return the group that somebody else made for a process, to read and to kill.

    Only a group with `owner` in its path counts, such as the id of the process's container: the
    process id may be reused by now, and for a process in the root group (v1 has a hierarchy for
    every controller) the whole machine would be the group's members.
    """
    assert len(owner) >= OWNER_LENGTH_MIN
    folders = {}
    for line in _read(f"/proc/{process}/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if owner not in path:
            continue
        place = f"{root}/unified{path}" if os.path.exists(root + "/unified") else root + path
        for controller in controllers.split(","):
            if controller in CONTROLLERS:
                folders[controller] = f"{root}/{controller}{path}"
            elif number == "0":
                folders[""] = place
    return Group({k: v for k, v in folders.items() if os.path.isdir(v)}, set())


def step_aside(root: str = ROOT) -> bool:
    """Move from a version 2 group that was delegated to us into a child; return whether we did.

    Version 2 divides no group that has processes of its own. A scope that a service manager made
    for us (`systemd-run --user --scope -p Delegate=yes`) is such a group, with only us in it.
    """
    own = _own_2(root)
    alone = _read(own + "/cgroup.procs").split() == [str(os.getpid())]
    if own == root or not alone or not _try_make(own + "/node"):
        return False
    return _try_write(own + "/node/cgroup.procs", str(os.getpid()))


def tidy(root: str = ROOT) -> None:
    """Remove the groups of nodes without containers, and their parent if none is left.

    A node that was killed leaves its group. The kernel removes no group that is in use; a node that
    is about to make a group there makes the parents again.
    """
    version_2 = os.path.exists(root + "/cgroup.controllers")
    bases = bases_2(root) if version_2 else [f"{root}/{x}" for x in (*CONTROLLERS, "unified")]
    for folder in (f"{base}/{OURS}" for base in bases):
        for name in (*_names_in(folder), ""):
            _try_rmdir(folder + name)


def children(path: str, root: str = ROOT) -> list[str]:
    """Return the names of the groups inside a group, sorted."""
    names: set[str] = set()
    for folder in find(path, root).folders.values():
        names.update(_names_in(folder))
    return sorted(names)


def _names_in(folder: str) -> list[str]:
    """Return the names of the folders inside; none if another node has just removed it."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def kill_process(process: int) -> None:
    """Send SIGKILL; ignore a process that is gone or not ours."""
    try:
        os.kill(process, 9)
    except (ProcessLookupError, PermissionError):
        return


def bases_2(root: str) -> list[str]:
    """Return version 2 folders in which we might make groups, the most promising first.

    A service manager that delegates gives us our own group, or (DelegateSubgroup=) its parent.
    """
    own = _own_2(root)
    parent = own.rpartition("/")[0]
    bases = [base for base in (parent, own, root) if len(base) >= len(root)]
    return list(dict.fromkeys(bases))


def _own_2(root: str) -> str:
    """Return the folder of our own version 2 group."""
    line = next((x for x in _read("/proc/self/cgroup").splitlines() if x.startswith("0::")), "")
    return root + line.removeprefix("0::").rstrip("/")


def _create_2(path: str, limits: tuple[str, str, str], root: str) -> Group:
    """Make the group of version 2 below the first base that gives us the memory controller."""
    files = (("memory", "memory.max"), ("pids", "pids.max"), ("cpu", "cpu.max"))
    for base in bases_2(root) * MAKE_ROUNDS:  # Another may have just removed an empty parent.
        levels = [base, *(f"{base}/{part}" for part in _parents(path))]
        if not all(_divide_2(level) for level in levels):
            continue
        folder = f"{base}/{path}"
        if not _try_make(folder):
            continue
        pairs = zip(files, limits, strict=True)
        hard = {name for (name, file), value in pairs if _try_write(f"{folder}/{file}", value)}
        if "memory" in hard:
            _try_write(folder + "/memory.swap.max", "0")
            _try_write(folder + "/memory.oom.group", "1")
            return Group({"": folder}, hard)
        _try_rmdir(folder)
    return Group({}, set())


def _divide_2(folder: str) -> bool:
    """Enable controllers for child groups; return whether memory is one of them.

    A group with processes of its own can delegate the other controllers but not memory, and then no
    process can enter a child: so memory is enabled first.
    """
    _try_make(folder)
    given = _try_write(folder + "/cgroup.subtree_control", "+memory")
    for controller in ("pids", "cpu", "io") if given else ():
        _try_write(folder + "/cgroup.subtree_control", "+" + controller)
    return given


def _parents(path: str) -> list[str]:
    """Return "a", "a/b" for "a/b/c"."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _field(path: str, key: str) -> int:
    """Return the number after the key in a file of "key number" lines, 0 if there is none."""
    for line in _read(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def _read(path: str) -> str:
    """Return the file's content, "" if it cannot be read."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, value: str) -> None:
    """Write to a kernel file that must exist; O_CREAT is refused there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _try_write(path: str, value: str) -> bool:
    """Write; return whether the kernel accepted it."""
    try:
        _write(path, value)
    except OSError:
        return False
    return True


def _try_make(folder: str) -> bool:
    """Make the folder and its parents; return whether we may write there."""
    for _ in range(MAKE_ROUNDS):
        try:
            os.makedirs(folder, exist_ok=True)
        except FileNotFoundError:  # Another node has just removed an empty parent.
            continue
        except OSError:
            return False
        break
    return os.access(folder + "/cgroup.procs", os.W_OK)


def _try_rmdir(folder: str) -> bool:
    """Remove an empty group; return whether it is gone."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
