"""An image with Debian's PyTorch: those files of the packages that a training run loads.

The whole packages are 650 MB of 183 packages, with documentation and headers. What a run loads is
the same bytes at the same paths, and a link by which the loader finds each library.
Spec: specs/overview.md#tests.
"""

import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from node.data.elf import soname_of

PYTHON = "/usr/bin/python3"
"""The Python for which Debian packages PyTorch, whichever runs the tests."""
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
TORCH = Path("/usr/lib/python3/dist-packages/torch")
UNTRACED = [str(TORCH / "bin/torch_shm_manager")]
"""What `import torch` only looks for."""
FOLDERS = ("etc", "tmp")
LINKS = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "usr/lib64/ld-linux-x86-64.so.2": "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
}
TRACED = """
import importlib.util, json, runpy, sys
opened, (found, *sys.argv) = set(), sys.argv[1:]
sys.addaudithook(lambda event, about: event == "open" and opened.add(str(about[0])))
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as ended:
    assert not ended.code
known = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
known |= {importlib.util.source_from_cache(name) for name in opened if name.endswith(".pyc")}
compiled = {importlib.util.cache_from_source(name) for name in known if name.endswith(".py")}
mapped = [line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/" in line]
with open(found, "w") as file:
    json.dump([name for name in (*known, *compiled, *mapped) if name.startswith("/usr/")], file)
"""
"""Notes which modules and libraries a script loads. A module may hide itself from `sys.modules`."""


@cache
def why_missing() -> str:
    """Why PyTorch cannot be used here; empty if it can."""
    if why := os.environ.get("MISSING_TORCH"):
        return why
    if platform.machine() != "x86_64":
        return "the image is made for x86-64"
    look = "import importlib.util as i, sys; sys.exit(i.find_spec('torch') is None)"
    try:
        there = subprocess.run([PYTHON, "-c", look], check=False).returncode == 0
    except FileNotFoundError:
        there = False
    return "" if there else "python3-torch is not installed"


needs_torch = pytest.mark.skipif(bool(why_missing()), reason=why_missing())


def traced(folder: Path, *command: str) -> tuple[list[str], str]:
    """Run a Python script with this machine's PyTorch; return what it loaded and printed."""
    found = folder / "loaded.json"
    ran = subprocess.run(
        [PYTHON, "-c", TRACED, str(found), *command],
        env={"PATH": "/usr/bin", "OMP_NUM_THREADS": "1"},
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    there = [name for name in json.loads(found.read_text()) if Path(name).is_file()]
    return sorted({*there, *UNTRACED}), ran.stdout


def write_layer(target: BinaryIO, names: list[str]) -> None:
    """Write an uncompressed layer with these files of the machine, and links to the libraries."""
    links = LINKS | {"usr/bin/python3": Path(PYTHON).resolve().name} | dict(_library_links(names))
    links |= {str(link)[1:]: str(link.readlink()) for link in (TORCH / "lib").iterdir()}
    with tarfile.open(fileobj=target, mode="w") as archive:
        for folder in FOLDERS:
            archive.addfile(_entry(folder, tarfile.DIRTYPE, mode=0o755))
        for name, link in links.items():
            archive.addfile(_entry(name, tarfile.SYMTYPE, linkname=link))
        for name in names:
            with Path(name).open("rb") as file:
                status = os.fstat(file.fileno())
                mode, mtime = status.st_mode & 0o755, int(status.st_mtime)
                entry = _entry(name[1:], size=status.st_size, mode=mode, mtime=mtime)
                archive.addfile(entry, file)


def _library_links(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield links from the loader's folder to libraries with another folder or name."""
    for name in names:
        library = soname_of(Path(name)) if ".so" in name else None
        if library is not None and str(LIBRARIES / library) != name:
            yield str(LIBRARIES / library)[1:], name


def _entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info
