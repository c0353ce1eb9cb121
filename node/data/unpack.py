"""Unpacks the layers of an image into a folder for the root of a container.

The layers are untrusted. The kernel resolves every path inside the folder; only files, folders and
links are created; nothing has another owner or runs as another user; and the folder gets its name
only after all digests were verified.

Spec: specs/data.md#unpacking.
"""

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from node.data.disk import CHUNK, NO_SPACE, full_disk_as_storage_full
from node.data.layers import Allowance, open_layer
from node.data.manifest import Layer
from node.data.openat2 import open_in_root, sync_file_system
from node.data.tar import TarEntry, TarReader
from protocol.values.errors import InvalidRequest

MOUNT_POINTS: Final = ("proc", "dev", "tmp", "in", "out", "run", "work")
"""Created here, because they cannot be created on a read-only root later."""
DEPTH_MAX: Final = 128
"""Maximum depth of folders, so code that walks the tree later does not exhaust its stack."""
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OPAQUE: Final = ".wh..wh..opq"
WHITEOUT: Final = ".wh."
# The kernel's errors for paths that an image may not have; any other is a fault of our disk.
PATH_ERRORS: Final = frozenset(
    {
        errno.ELOOP,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ENAMETOOLONG,
        errno.EXDEV,
        errno.EPERM,
        errno.EINVAL,
        errno.EMLINK,
        errno.EBUSY,
        errno.EILSEQ,
    }
)


def unpack(layers: Sequence[tuple[Layer, Path]], target: Path, allowance: Allowance) -> None:
    """Unpack layers, given with the path of their blob, to the new folder `target`.

    InvalidRequest if they are broken, hostile or use more than allowed; StorageFull if the disk is
    full. After an error there is no target folder.
    """
    temporary = target.with_name(f"{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    with full_disk_as_storage_full(target.parent), ExitStack() as undo:
        temporary.mkdir(mode=0o755, parents=True)
        undo.callback(shutil.rmtree, temporary, ignore_errors=True)
        temporary.chmod(0o755)  # Whatever the umask is: the container runs as another user.
        with ExitStack() as handles:
            root = os.open(temporary, FOLDER | os.O_CLOEXEC)
            handles.callback(os.close, root)
            for layer, path in layers:
                _unpack_layer(root, layer, path, allowance)
            for name in MOUNT_POINTS:
                _make_mount_point(root, name)
            sync_file_system(root)
        temporary.rename(target)
        undo.pop_all()


def remove_tree(folder: int, name: str) -> None:
    """Remove the entry of this name in an open folder, without following links."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=folder)
        return
    inner = os.open(name, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        for entry in _names(inner):
            remove_tree(inner, entry)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)


def _unpack_layer(root: int, layer: Layer, path: Path, allowance: Allowance) -> None:
    with open_layer(layer, path, allowance) as archive, closing(_Writer(root, archive)) as writer:
        for entry in archive:
            _write_entry(writer, entry, layer)


def _write_entry(writer: "_Writer", entry: TarEntry, layer: Layer) -> None:
    try:
        writer.write(entry)
    except OSError as error:
        if error.errno not in PATH_ERRORS or error.errno in NO_SPACE:
            raise
        line = f"layer {layer}: cannot make {entry.name!r:.120}: {error.strerror}"
        raise InvalidRequest(line) from error


def _make_mount_point(root: int, name: str) -> None:
    """Create a real folder, in place of anything that the image has there."""
    try:
        is_folder = stat.S_ISDIR(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        is_folder = False
    if not is_folder:
        remove_tree(root, name)
        _make_folder(root, name, 0o755)


class _Writer:
    """Writes the entries of one layer below an open root folder."""

    def __init__(self, root: int, archive: TarReader) -> None:
        self._root = root
        self._archive = archive
        self._made: set[tuple[str, ...]] = set()
        """Paths of this layer, which its own opaque whiteouts do not hide."""
        self._parent: int | None = None
        self._parent_parts: tuple[str, ...] = ()

    def write(self, entry: TarEntry) -> None:
        """Apply the entry; OSError or InvalidRequest if that is impossible."""
        parts = _parts(entry.name)
        if not parts:
            return  # The root folder itself.
        # Files are mostly in the same folder. All other entries may change where a path leads.
        if self._parent is None or self._parent_parts != parts[:-1] or entry.kind != "file":
            self._enter(parts[:-1])
        name = parts[-1]
        if name == OPAQUE:
            self._hide_all(parts[:-1])
        elif name.startswith(WHITEOUT):
            self._hide(name.removeprefix(WHITEOUT))
        else:
            if parts[:-1] not in self._made:
                self._made.update(parts[:end] for end in range(1, len(parts)))
            self._made.add(parts)
            self._make(name, entry)
        if entry.kind != "file":
            self.close()

    def close(self) -> None:
        """Close the folder of the last written entry."""
        if self._parent is not None:
            os.close(self._parent)
            self._parent = None

    def _enter(self, parts: tuple[str, ...]) -> None:
        """Open the folder of an entry."""
        self.close()
        self._parent, self._parent_parts = self._open_parent(parts), parts
        _refuse_too_deep(self._parent)

    def _make(self, name: str, entry: TarEntry) -> None:
        assert self._parent is not None
        mode = entry.mode & 0o777  # No setuid, no setgid, no sticky bit.
        match entry.kind:
            case "folder":
                self._clear_unless_folder(name)
                _make_folder(self._parent, name, mode | 0o700)
            case "file":
                self._make_file(name, mode | 0o400, entry.mtime)
            case "symbolic link":
                remove_tree(self._parent, name)
                os.symlink(entry.link, name, dir_fd=self._parent)
            case "hard link":
                self._link(name, entry)
            case _:
                return  # Devices and FIFOs: the sandbox provides its own.

    def _make_file(self, name: str, mode: int, mtime: int) -> None:
        assert self._parent is not None
        try:
            handle = os.open(name, NEW_FILE, 0o600, dir_fd=self._parent)
        except FileExistsError:
            remove_tree(self._parent, name)
            handle = os.open(name, NEW_FILE, 0o600, dir_fd=self._parent)
        try:
            while data := self._archive.read(CHUNK):
                write_all(handle, data)
            os.fchmod(handle, mode)
            os.utime(handle, (mtime, mtime))
        finally:
            os.close(handle)

    def _link(self, name: str, entry: TarEntry) -> None:
        assert self._parent is not None
        target = _parts(entry.link)
        if not target:
            raise InvalidRequest(f"the image links {entry.name!r:.120} to its root folder")
        source = open_in_root(self._root, "/".join(target[:-1]), FOLDER)
        try:
            # Before the old name is removed: it may be the target itself.
            wanted = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
            if _same_file(wanted, self._parent, name):
                return
            remove_tree(self._parent, name)
            os.link(
                target[-1],
                name,
                src_dir_fd=source,
                dst_dir_fd=self._parent,
                follow_symlinks=False,
            )
        finally:
            os.close(source)

    def _hide(self, name: str) -> None:
        assert self._parent is not None
        if name in {"", ".", ".."}:
            raise InvalidRequest("the image has a whiteout without a name")
        remove_tree(self._parent, name)

    def _hide_all(self, folder: tuple[str, ...]) -> None:
        assert self._parent is not None
        for name in _names(self._parent):
            if (*folder, name) not in self._made:
                remove_tree(self._parent, name)

    def _clear_unless_folder(self, name: str) -> None:
        assert self._parent is not None
        try:
            mode = os.stat(name, dir_fd=self._parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            remove_tree(self._parent, name)

    def _open_parent(self, parts: tuple[str, ...]) -> int:
        """Open the folder as the container would resolve it; create it if it is missing."""
        for end in range(len(parts), -1, -1):
            try:
                folder = open_in_root(self._root, "/".join(parts[:end]), FOLDER)
            except FileNotFoundError:
                continue
            for name in parts[end:]:
                folder = _enter_new_folder(folder, name)
            return folder
        raise AssertionError("the root folder is open, so it can be opened")


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of a path; InvalidRequest for one with `..`."""
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if ".." in parts or len(parts) > DEPTH_MAX:
        raise InvalidRequest(f"the image has a path that is not allowed: {name!r:.120}")
    return parts


def _enter_new_folder(folder: int, name: str) -> int:
    """Create a folder in an open one and return it open; close the outer one."""
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
        inner = os.open(name, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    os.fchmod(inner, 0o755)
    return inner


def _refuse_too_deep(folder: int) -> None:
    """Raise InvalidRequest if links lead deeper into the tree than a single path may."""
    # As text: this runs for every folder, half a million times for a hostile image.
    if os.readlink(f"/proc/self/fd/{folder}").count("/") >= 2 * DEPTH_MAX:  # noqa: PTH115
        raise InvalidRequest("the image has folders inside each other beyond the allowed depth")


def write_all(handle: int, data: bytes) -> None:
    """Write all of the data."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _make_folder(parent: int, name: str, mode: int) -> None:
    """Create a folder, or give an existing one this mode."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        assert stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    handle = os.open(name, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def _same_file(wanted: os.stat_result, parent: int, name: str) -> bool:
    try:
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino)
