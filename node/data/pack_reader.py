"""Unpacks a pack into a folder, with the care that layers get.

A pack is a stranger's. The kernel resolves every path below the folder and over no link; only
folders, regular files and links that stay inside are created, each under a new name; the folder
gets its name only after the digest was verified.

Spec: specs/inputs.md#packs.
"""

import hashlib
import os
import shutil
from contextlib import ExitStack, closing
from pathlib import Path
from typing import BinaryIO, Final

import trio

from node.data.disk import CHUNK, NO_SPACE, full_disk_as_storage_full
from node.data.layers import Allowance
from node.data.openat2 import open_beneath, sync_file_system
from node.data.pack_writer import stays_inside
from node.data.tar import TarEntry, TarReader
from node.data.unpack import DEPTH_MAX, FOLDER, NEW_FILE, PATH_ERRORS, write_all
from protocol.values.errors import InvalidRequest
from protocol.values.ids import Digest
from protocol.wire.job import is_safe_path

FOLDER_MODE: Final = 0o755
FILE_MODES: Final = {False: 0o644, True: 0o755}


def unpack_pack(digest: Digest, path: Path, target: Path, allowance: Allowance) -> None:
    """Unpack a pack, given with the path of its blob, to the new folder `target`.

    InvalidRequest if it is broken, hostile or uses more than allowed; StorageFull if the disk is
    full. After an error there is no target folder.
    """
    temporary = target.with_name(f"{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    with full_disk_as_storage_full(target.parent), ExitStack() as undo:
        temporary.mkdir(parents=True)
        undo.callback(shutil.rmtree, temporary, ignore_errors=True)
        temporary.chmod(FOLDER_MODE)  # Whatever the umask is: the job runs as another user.
        with ExitStack() as handles:
            root = os.open(temporary, FOLDER | os.O_CLOEXEC)
            handles.callback(os.close, root)
            _unpack_below(root, digest, handles.enter_context(path.open("rb")), allowance)
            sync_file_system(root)
        temporary.rename(target)
        undo.pop_all()


def _unpack_below(root: int, digest: Digest, blob: BinaryIO, allowance: Allowance) -> None:
    source = _HashedBlob(blob, allowance)
    archive = TarReader(source)
    with closing(_PackFolder(root, archive)) as folder:
        for entry in archive:
            allowance.take_entry()
            _add(folder, entry)
    if source.finish() != digest:
        raise InvalidRequest(f"the pack sha256:{digest.hex()[:12]} is damaged")


def _add(folder: "_PackFolder", entry: TarEntry) -> None:
    try:
        folder.add(entry)
    except OSError as error:
        if error.errno not in PATH_ERRORS or error.errno in NO_SPACE:
            raise
        line = f"the pack has a wrong entry {entry.name!r:.120}: {error.strerror}"
        raise InvalidRequest(line) from error


class _PackFolder:
    """Creates the entries of a pack below an open folder."""

    def __init__(self, root: int, archive: TarReader) -> None:
        self._root = root
        self._archive = archive
        self._parent = os.dup(root)
        self._parent_path = ""

    def add(self, entry: TarEntry) -> None:
        """Create the entry, whose folder was created before; OSError or InvalidRequest if not."""
        path = entry.name.removesuffix("/") if entry.kind == "folder" else entry.name
        if not is_safe_path(path) or path.count("/") >= DEPTH_MAX:
            raise InvalidRequest(f"the pack has a path that is not allowed: {path!r:.120}")
        parent, _, name = path.rpartition("/")
        if parent != self._parent_path:
            handle = open_beneath(self._root, parent, FOLDER)
            os.close(self._parent)
            self._parent, self._parent_path = handle, parent
        match entry.kind:
            case "folder":
                os.mkdir(name, dir_fd=self._parent)
                os.chmod(name, FOLDER_MODE, dir_fd=self._parent)
            case "file":
                self._write(name, entry)
            case "symbolic link" if stays_inside(path, entry.link):
                os.symlink(entry.link, name, dir_fd=self._parent)
            case "symbolic link":
                line = f"the pack's link {path!r:.120} leads out of it: {entry.link!r:.120}"
                raise InvalidRequest(line)
            case _:
                raise InvalidRequest(f"the pack has a {entry.kind} {path!r:.120}")

    def close(self) -> None:
        """Close the folder of the last entry."""
        os.close(self._parent)

    def _write(self, name: str, entry: TarEntry) -> None:
        handle = os.open(name, NEW_FILE, 0o600, dir_fd=self._parent)
        try:
            while data := self._archive.read(CHUNK):
                write_all(handle, data)
            os.fchmod(handle, FILE_MODES[bool(entry.mode & 0o100)])
            os.utime(handle, (entry.mtime, entry.mtime))
        finally:
            os.close(handle)


class _HashedBlob:
    """A pack's bytes, hashed and counted as they are read."""

    def __init__(self, blob: BinaryIO, allowance: Allowance) -> None:
        self._blob = blob
        self._allowance = allowance
        self._whole = hashlib.sha256()
        self._buffer = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        if not self._buffer:
            trio.from_thread.check_cancelled()
            data = self._blob.read(CHUNK)
            self._whole.update(data)
            self._allowance.take_bytes(len(data))
            self._buffer = memoryview(data)
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return bytes(found)

    def finish(self) -> Digest:
        """Read the rest; return the digest of the whole."""
        while self.read(CHUNK):
            pass
        return Digest(self._whole.digest())
