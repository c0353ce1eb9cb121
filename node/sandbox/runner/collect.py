"""Copy a job's outputs out of a folder that a stranger filled.

The job is dead, so nothing changes during the walk; its files may still be hostile. Every step
uses a folder's descriptor and follows no link; only regular files with one name on the same file
system are copied, into new files that the node owns.

Spec: specs/sandbox.md#outputs.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH102, PTH103, PTH106, PTH108, PTH112, PTH118, PTH120

import errno
import os
import stat

from node.sandbox.runner import bundle

FILES_MAX = 10_000
ENTRIES_MAX = 50_000
DEPTH_MAX = 32
PATH_BYTES_MAX = 1024
REFUSED_MAX = 100
COPY_BYTES = 1 << 24
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Collection:
    """What was copied and what was refused, with the room that is left."""

    __slots__ = (
        "bundle", "bytes_left", "device", "entries_left", "files_left", "refused", "refused_count",
    )  # fmt: skip

    def __init__(self, bytes_max: int, device: int) -> None:
        self.bytes_left = bytes_max
        self.files_left = FILES_MAX
        self.entries_left = ENTRIES_MAX
        self.device = device
        self.bundle: bundle.Bundle | None = None
        self.refused: list[str] = []
        self.refused_count = 0

    def refuse(self, path: str, why: str) -> None:
        """Note a refusal in one printable line; the list is bounded, the count is not."""
        self.refused_count += 1
        if len(self.refused) < REFUSED_MAX - 1:
            self.refused.append(f"{ascii(path)[1:-1][:200]}: {why}")


def collect(source: int, target: str, bytes_max: int) -> Collection:
    """Copy the regular files below the folder `source` (a descriptor) to the new folder `target`.

    Many small ones go to a bundle beside it. Returns what was refused and why. OSError means that
    our own disk failed, not the job.
    """
    collection = Collection(bytes_max, os.fstat(source).st_dev)
    os.mkdir(target, 0o700)
    place = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    collection.bundle = bundle.Bundle(target)
    try:
        _walk(collection, (source, place), "", 0)
    finally:
        os.close(place)
        collection.bundle.close()
    return _counted(collection)


def collect_at(source: int, path: str, target: str, bytes_max: int) -> Collection:
    """Copy what lies at one path below `source` to the same path below the new folder `target`.

    The job may run meanwhile: OSError then also means that it removed what was being copied.
    """
    collection = Collection(bytes_max, os.fstat(source).st_dev)
    parent = os.path.join(target, os.path.dirname(path))
    os.makedirs(parent, 0o700)
    place = os.open(parent, FOLDER)
    try:
        folder = open_parent(source, path)
        try:
            _place(collection, (folder, place), path, path.count("/"))
        finally:
            os.close(folder)
    finally:
        os.close(place)
    return _counted(collection)


def discard(target: str) -> None:
    """Remove what was collected so far, as well as it can be."""
    bundle.discard(target)
    for folder, folders, files in os.walk(target, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            os.rmdir(os.path.join(folder, name))
    if os.path.isdir(target):
        os.rmdir(target)


def open_parent(source: int, path: str) -> int:
    """Return a descriptor of a path's folder below `source`; OSError if there is none."""
    folder = os.dup(source)
    for parent in path.split("/")[:-1]:
        try:
            inner = os.open(parent, FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _counted(collection: Collection) -> Collection:
    """Return a collection whose list of refusals says how many it leaves out."""
    left_out = collection.refused_count - len(collection.refused)
    if left_out:
        collection.refused.append(f"and {left_out} more")
    return collection


def _walk(collection: Collection, pair: tuple[int, int], path: str, depth: int) -> None:
    """Copy everything in one folder; `pair` holds the descriptors of source and target."""
    for name in _names(pair[0]):
        collection.entries_left -= 1
        if collection.entries_left < 0:
            if collection.entries_left == -1:
                collection.refuse(path or "/out", f"more than {ENTRIES_MAX} entries")
            return
        inner = f"{path}/{name}" if path else name
        why = _unfit(name, inner)
        if why:
            collection.refuse(inner, why)
            continue
        _place(collection, pair, inner, depth)


def _place(collection: Collection, pair: tuple[int, int], path: str, depth: int) -> None:
    """Copy one thing; the path's last name is that in both folders."""
    found = os.stat(path.rpartition("/")[2], dir_fd=pair[0], follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        _enter(collection, pair, path, depth)
    elif stat.S_ISREG(found.st_mode):
        _take(collection, pair, path, found)
    else:
        collection.refuse(path, KINDS.get(stat.S_IFMT(found.st_mode), "not a regular file"))


def _names(folder: int) -> list[str]:
    """Return a folder's names in a stable order, a bounded number of them."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > ENTRIES_MAX:
                break
    return sorted(names)


def _unfit(name: str, path: str) -> str:
    """Return why a name cannot be transferred, "" if it can."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if size > PATH_BYTES_MAX:
        return f"its path is longer than {PATH_BYTES_MAX} bytes"
    return "" if name.isprintable() else "its name contains control characters"


def _enter(collection: Collection, pair: tuple[int, int], path: str, depth: int) -> None:
    """Walk into a folder, and make its copy in the target."""
    name = path.rpartition("/")[2]
    if depth >= DEPTH_MAX:
        collection.refuse(path, f"deeper than {DEPTH_MAX} folders")
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        source = os.open(name, flags, dir_fd=pair[0])
    except OSError as fault:
        collection.refuse(path, f"cannot be opened ({errno.errorcode.get(fault.errno or 0)})")
        return
    try:
        if os.fstat(source).st_dev != collection.device:
            collection.refuse(path, "another file system is mounted there")
            return
        os.mkdir(name, 0o700, dir_fd=pair[1])
        target = os.open(name, flags, dir_fd=pair[1])
        try:
            _walk(collection, (source, target), path, depth + 1)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _take(collection: Collection, pair: tuple[int, int], path: str, found: os.stat_result) -> None:
    """Copy one regular file, if it has one name and fits."""
    if found.st_nlink != 1:
        collection.refuse(path, "a hard link")
        return
    if found.st_size > collection.bytes_left:
        collection.refuse(path, f"over the limit of output: {found.st_size} bytes")
        return
    if collection.files_left == 0:
        collection.refuse(path, f"more than {FILES_MAX} files")
        return
    name = path.rpartition("/")[2]
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        source = os.open(name, flags, dir_fd=pair[0])
    except OSError as fault:
        collection.refuse(path, f"cannot be opened ({errno.errorcode.get(fault.errno or 0)})")
        return
    try:
        opened = os.fstat(source)
        if (opened.st_dev, opened.st_ino) != (collection.device, found.st_ino):
            collection.refuse(path, "it changed meanwhile")
            return
        executable = bool(opened.st_mode & stat.S_IXUSR)
        if collection.bundle is not None and collection.bundle.takes(found.st_size):
            copied = _copy(source, collection.bundle.place(), found.st_size)
            collection.bundle.note(path, copied, executable)
        else:
            _copy_to(source, (pair[1], name, 0o700 if executable else 0o600), found.st_size)
    finally:
        os.close(source)
    collection.bytes_left -= found.st_size
    collection.files_left -= 1


def _copy_to(source: int, place: tuple[int, str, int], size: int) -> None:
    """Write at most `size` bytes to a new file of the node: no owner or attribute is copied."""
    target = os.open(place[1], bundle.NEW_FILE, place[2], dir_fd=place[0])
    try:
        _copy(source, target, size)
    finally:
        os.close(target)


def _copy(source: int, target: int, size: int) -> int:
    """Append at most `size` bytes of a file to another; return how many."""
    done = 0
    while done < size:
        sent = os.sendfile(target, source, done, min(COPY_BYTES, size - done))
        if sent == 0:
            break
        done += sent
    return done
