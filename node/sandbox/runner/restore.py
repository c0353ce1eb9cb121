"""Write the files of a checkpoint into a container's /out before its job begins.

Each `restored` of the launch record is a file: "x" or "-" (whether it is executable), its path
below /out, and the node's file with its content, separated by tabs. A process of its own does the
work, in the container's control group: what it writes into memory counts as the job's.

Spec: specs/sandbox.md#restored-files.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH116, PTH208

import os

from node.sandbox.runner import cgroups, job_disk
from node.sandbox.runner.container import StartFailed
from node.sandbox.runner.records import Fields

TOO_LARGE = "the checkpoint does not fit into the job's disk, or its memory if that is in memory"
SEPARATOR = "\t"
COPY_BYTES = 1 << 24
DONE, FULL = 0, 28
"""Exit codes of the process that writes; errno numbers are others."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def line_of(path: str, source: str, executable: bool) -> str:  # noqa: FBT001
    """Return a file of the checkpoint as the launch record has it."""
    return SEPARATOR.join(("x" if executable else "-", path, source))


def restore(out: int, fields: Fields, group: cgroups.Group) -> None:
    """Write all files below the folder `out` (a descriptor); StartFailed if they do not fit."""
    files = fields.every("restored")
    if not files:
        return
    if (
        fields.one("disk") == job_disk.BY_WATCH
        and _size_of(files) > fields.number("disk_mib") << 20
    ):
        raise StartFailed(TOO_LARGE)
    process = os.fork()
    if process == 0:
        _write_all(out, files, fields, group)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status == DONE:
        return
    if status == FULL or status < 0:  # The kernel kills a process that needs too much memory.
        raise StartFailed(TOO_LARGE)
    raise StartFailed(f"the checkpoint cannot be restored: {os.strerror(status)}")


def _size_of(files: list[str]) -> int:
    return sum(os.stat(file.split(SEPARATOR, 2)[2]).st_size for file in files)


def _write_all(out: int, files: list[str], fields: Fields, group: cgroups.Group) -> None:
    """In the child: write the files, and exit. Never returns."""
    code = 1
    try:
        if group.folders:
            group.join()
        user = fields.number("uid") if fields.one("uid") else None
        for file in files:
            mode, path, source = file.split(SEPARATOR, 2)
            content = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            _act_as(user)
            _write(out, path, content, 0o755 if mode == "x" else 0o644)
            _act_as(0 if user is not None else None)
            os.close(content)
        code = DONE
    except OSError as fault:
        code = fault.errno or 1
    finally:
        os._exit(code)


def _act_as(user: int | None) -> None:
    """Make new files belong to a user; None changes nothing. Only the job's id exists in /out."""
    if user is None:
        return
    if user:
        os.setegid(user)
        os.seteuid(user)
    else:
        os.seteuid(user)
        os.setegid(user)


def _write(out: int, path: str, content: int, mode: int) -> None:
    *parents, name = path.split("/")
    folder = os.dup(out)
    for parent in parents:
        if parent not in os.listdir(folder):
            os.mkdir(parent, 0o755, dir_fd=folder)
        inner = os.open(parent, FOLDER, dir_fd=folder)
        os.close(folder)
        folder = inner
    target = os.open(name, NEW_FILE, mode, dir_fd=folder)
    os.close(folder)
    done, size = 0, os.fstat(content).st_size
    while done < size:
        sent = os.sendfile(target, content, done, min(COPY_BYTES, size - done))
        if sent == 0:
            break
        done += sent
    os.close(target)
