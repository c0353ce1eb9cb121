"""A first image from files of this machine: Python, a shell, a few tools and their libraries.

With it the user of a new node can run a job without a registry or another node. The same machine
always produces the same bytes: entries are sorted, times and owners are zero.

Spec: specs/data.md#base-image.
"""

import gzip
import hashlib
import importlib.util
import io
import marshal
import os
import shutil
import stat
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

import trio

from node.data.disk import full_disk_as_storage_full
from node.data.elf import closure, library_folders
from node.data.manifest import encode, own_platform
from protocol.values.errors import SandboxUnavailable
from protocol.values.ids import Digest

VERSION: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
TOOLS: Final = (
    "sh", "bash", "env", "cat", "ls", "cp", "mv", "rm", "mkdir", "rmdir", "ln", "touch", "chmod",
    "echo", "printf", "pwd", "sleep", "true", "false", "test", "date", "head", "tail", "wc",
    "sort", "uniq", "cut", "tr", "tee", "seq", "basename", "dirname", "du", "df", "stat", "id",
    "uname", "nproc", "sha256sum", "md5sum", "base64", "yes", "timeout", "kill", "grep", "sed",
    "find", "xargs", "tar", "gzip", "awk",
)  # fmt: skip
"""Programs that users expect in `sh -c`; the image has those that this machine has."""
SKIPPED_FOLDERS: Final = frozenset(
    {
        "test", "tests", "idlelib", "turtledemo", "tkinter", "lib2to3", "ensurepip", "pydoc_data",
        "site-packages", "dist-packages", "__pycache__",
    }
)  # fmt: skip
SKIPPED_SUFFIXES: Final = frozenset({".pyc", ".a", ".exe", ".o"})
SKIPPED_STARTS: Final = ("_test", "_tkinter", "_ctypes_test", "xxlimited")
FOLDERS: Final = ("dev", "etc", "in", "out", "proc", "root", "run", "tmp", "usr", "work")
FILES: Final = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65532:65532:nobody:/tmp:/bin/sh\n",
    "etc/group": b"root:x:0:\nnobody:x:65532:\n",
}
CONFIG: Final[dict[str, object]] = {
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"],
    "WorkingDir": "/work",
    "Cmd": ["python3"],
}


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """A layer in a file: its size in bytes, and the digest of its unpacked content."""

    size: int
    diff_id: Digest


class Plan:
    """The planned content of the image, before anything is read or written."""

    def __init__(self) -> None:
        self.folders: set[str] = set(FOLDERS)
        self.files: dict[str, Path | bytes] = dict(FILES)
        self.links: dict[str, str] = {"bin": "usr/bin"}

    def add(self, name: str, content: Path | bytes) -> None:
        """Add a file at a path, unless the path is used already."""
        self.files.setdefault(name, content)

    def names(self) -> list[str]:
        """Return all paths, each after its folder."""
        files = {*self.files, *self.links}
        parents = {
            str(up) for name in (*files, *self.folders) for up in PurePosixPath(name).parents
        }
        self.folders |= parents - {"."}
        return sorted(files | self.folders)


def write_layer(target: BinaryIO) -> BuiltLayer:
    """Write the gzip layer of the base image to an empty file; it takes seconds.

    SandboxUnavailable if this machine's Python needs a library that is not installed,
    StorageFull if the disk is full.
    """
    plan = plan_image()
    with full_disk_as_storage_full(Path.cwd()):
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=target, mtime=0) as packed:
            hashing = _Hashing(packed)
            _write_archive(hashing, plan)
        target.flush()
    return BuiltLayer(target.tell(), Digest(hashing.whole.digest()))


def _write_archive(target: "_Hashing", plan: Plan) -> None:
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for name in plan.names():
            trio.from_thread.check_cancelled()
            _add(archive, name, plan)


def config_of(layer: BuiltLayer) -> bytes:
    """Return the config document of the base image."""
    system, _, architecture = own_platform().partition("/")
    return encode(
        {
            "architecture": architecture,
            "os": system,
            "created": "1970-01-01T00:00:00Z",
            "config": CONFIG,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id.hex()}"]},
        }
    )


def plan_image() -> Plan:
    """Return the content of the image; SandboxUnavailable if Python's libraries are missing."""
    plan = Plan()
    folders = library_folders()
    python = Path(sys.executable).resolve()
    try:
        libraries = closure(python, folders)
    except FileNotFoundError as error:
        raise SandboxUnavailable(f"cannot build a base image: {error}") from error
    home = _library_home(libraries)
    plan.add(f"usr/bin/{VERSION}", python)
    plan.links |= {"usr/bin/python3": VERSION, "usr/bin/python": VERSION}
    _add_libraries(plan, libraries, home)
    for name, path in _standard_library():
        if path.suffix == ".so" or ".so." in path.name:
            _add_program(plan, name, path, home)
        elif path.suffix == ".py":
            _add_module(plan, name, path)
        else:
            plan.add(name, path)
    for tool in TOOLS:
        _add_tool(plan, tool, home)
    return plan


def _add_tool(plan: Plan, tool: str, home: str) -> None:
    """Add a program of this machine, or of its busybox, if there is one."""
    path = shutil.which(tool, path="/usr/bin:/bin")
    if path is not None and _add_program(plan, f"usr/bin/{tool}", Path(path).resolve(), home):
        return
    busybox = shutil.which("busybox", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if busybox is not None:
        _add_program(plan, "usr/bin/busybox", Path(busybox).resolve(), home)
        plan.links[f"usr/bin/{tool}"] = "busybox"


def _add_program(plan: Plan, name: str, path: Path, home: str) -> bool:
    """Add a file with its libraries; leave it out if one of them is not installed."""
    try:
        libraries = closure(path, library_folders())
    except FileNotFoundError:
        return False
    plan.add(name, path)
    _add_libraries(plan, libraries, home)
    return True


def _add_libraries(plan: Plan, libraries: dict[str, Path], home: str) -> None:
    for name, path in libraries.items():
        # The loader is named by its full path; all others are found beside the C library.
        plan.add(name.lstrip("/") if name.startswith("/") else f"{home}/{name}", path)


def _library_home(libraries: dict[str, Path]) -> str:
    """Return a folder that this machine's loader searches, without a leading /."""
    c_library = libraries.get("libc.so.6")
    return str(c_library.parent).lstrip("/") if c_library else "usr/lib"


def _standard_library() -> Iterator[tuple[str, Path]]:
    """Yield the files of Python's standard library with their paths in the image."""
    base = {"platbase": sys.base_exec_prefix, "base": sys.base_prefix}
    roots = {sysconfig.get_path(name, vars=base) for name in ("stdlib", "platstdlib")}
    for root in sorted(roots):
        for path in _library_files(root):
            yield f"usr/{sys.platlibdir}/{VERSION}/{path.relative_to(root)}", path


def _library_files(root: str) -> Iterator[Path]:
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(
            name for name in set(inner) - SKIPPED_FOLDERS if not name.startswith("config-")
        )
        for path in (Path(folder, name) for name in sorted(names)):
            kept = path.suffix not in SKIPPED_SUFFIXES
            if kept and not path.name.startswith(SKIPPED_STARTS) and path.is_file():
                yield path


def _add_module(plan: Plan, name: str, path: Path) -> None:
    """Add a module with its bytecode: a container would compile it again at each start.

    Marshal version 2 has no references, so the bytes do not depend on other objects in memory.
    """
    source = path.read_bytes()
    if path.name.startswith("_sysconfigdata"):
        # The record of Python's build: the folders of this machine are left out.
        source = source.replace(sys.base_prefix.encode(), b"/usr")
    code = compile(source, f"/{name}", "exec", dont_inherit=True, optimize=0)
    unchecked_hash = (1).to_bytes(4, "little")
    header = importlib.util.MAGIC_NUMBER + unchecked_hash + importlib.util.source_hash(source)
    plan.add(name, source)
    plan.add(importlib.util.cache_from_source(name), header + marshal.dumps(code, 2))


def _add(archive: tarfile.TarFile, name: str, plan: Plan) -> None:
    """Write one entry; owners and times are zero."""
    info = tarfile.TarInfo(name)
    content = plan.files.get(name)
    if name in plan.links:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, plan.links[name], 0o777
        archive.addfile(info)
    elif content is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
    elif isinstance(content, bytes):
        info.size, info.mode = len(content), 0o644
        archive.addfile(info, io.BytesIO(content))
    else:
        with content.open("rb") as file:
            status = os.fstat(file.fileno())
            executable = bool(status.st_mode & stat.S_IXUSR)
            info.size, info.mode = status.st_size, 0o755 if executable else 0o644
            archive.addfile(info, file)


class _Hashing(io.RawIOBase):
    """Writes bytes to a file and hashes them."""

    def __init__(self, target: gzip.GzipFile) -> None:
        super().__init__()
        self._target = target
        self.whole = hashlib.sha256()

    def write(self, data: Any, /) -> int:  # Whatever io calls a buffer.
        self.whole.update(data)
        return self._target.write(data)
