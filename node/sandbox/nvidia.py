"""NVIDIA devices for the embedded driver: what the vendor's container toolkit would bind.

A container gets only its own devices, the control nodes that they need, and the user-space driver
libraries under the names that programs look for. No hook of the vendor runs.

Spec: specs/gpus.md#assignment.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from node.data.elf import soname_of
from node.hardware.nvidia import MigPlace, take_mig_places
from node.sandbox.bwrap import Extra
from node.sandbox.cdi import FOLDERS, Edits, edits_for, read_specs
from protocol.values.errors import SandboxUnavailable

CONTROL: Final = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
LIBRARIES: Final = frozenset(
    (
        "cuda", "cudadebugger", "nvidia-allocator", "nvidia-cfg", "nvidia-gpucomp", "nvidia-ml",
        "nvidia-nvvm", "nvidia-nvvm70", "nvidia-opencl", "nvidia-pkcs11",
        "nvidia-pkcs11-openssl3", "nvidia-ptxjitcompiler", "nvidia-sandboxutils",
    )
)  # fmt: skip
LIBRARY_LINE: Final = re.compile(r"\s*(lib([\w.-]+?)\.so[.\d]*) \(libc6,[^)]*64.*\) => (\S+)")
LIBRARY_NAME: Final = re.compile(r"lib[\w.+-]+\.so(\.[\d.]+)?")
INSIDE: Final = "/dev/nvidia-libraries"
"""In /dev, since an image's folders are read-only and we fill /dev ourselves."""
PROGRAM: Final = "nvidia-smi"
LDCONFIG_SECONDS: Final = 20
ROOT: Final = Path("/")


def extra_for(devices: tuple[str, ...], path: str, root: Path = ROOT) -> Extra:
    """Return what a container with this PATH needs to use the devices with these UUIDs.

    SandboxUnavailable if this machine's driver does not know one of them. It blocks.
    """
    edits = edits_for(devices, read_specs(root / folder for folder in FOLDERS))
    if edits is not None and all(file.exists() for file, _ in edits.files):
        nodes, files = edits.nodes, dict(_named_files(edits))
    else:  # Without CDI, or it is of a driver that is gone.
        nodes = _nodes_of(devices, root)
        files = dict(libraries_in(_linker_cache()))
        if program := shutil.which(PROGRAM):
            files[PROGRAM] = Path(program).resolve()
    binds = tuple((file, f"{INSIDE}/{name}") for name, file in sorted(files.items()))
    variables = (("LD_LIBRARY_PATH", INSIDE), ("PATH", f"{path}:{INSIDE}"))
    return Extra(nodes, binds, variables)


def _named_files(edits: Edits) -> Iterator[tuple[str, Path]]:
    """Yield the libraries and nvidia-smi, by each name that they are looked for by."""
    found: dict[str, Path] = {}
    for file, place in edits.files:
        if place.name == PROGRAM:
            found[PROGRAM] = file
        elif LIBRARY_NAME.fullmatch(place.name) and (soname := soname_of(file)) is not None:
            found |= {place.name: file, soname: file}
    for target, place in edits.links:
        linked = found.get(target.rpartition("/")[2])
        if linked is not None and LIBRARY_NAME.fullmatch(place.name):
            found.setdefault(place.name, linked)
    yield from found.items()


def _nodes_of(devices: Iterable[str], root: Path) -> tuple[str, ...]:
    """Return the device nodes of devices, and the control nodes."""
    minors = minors_of(root)
    devices = tuple(devices)
    parts = take_mig_places() if any(uuid not in minors for uuid in devices) else {}
    nodes: dict[str, None] = {}
    for uuid in devices:
        if uuid in minors:
            nodes[f"/dev/nvidia{minors[uuid]}"] = None
        elif uuid in parts:
            nodes |= dict.fromkeys(_part_nodes(parts[uuid], root))
        else:
            raise SandboxUnavailable(f"this machine has no GPU {uuid}; see `mutirao gpus`")
    control = (f"/dev/{name}" for name in CONTROL if (root / "dev" / name).exists())
    return (*nodes, *control)


def _part_nodes(part: MigPlace, root: Path) -> Iterator[str]:
    """Yield the nodes of a part of a GPU: the GPU's own, and the right to use this part of it."""
    table = root / "proc/driver/nvidia-caps/mig-minors"
    lines = table.read_text().splitlines() if table.exists() else []
    caps = dict(line.split()[:2] for line in lines if len(line.split()) == 2)
    place = f"gpu{part.minor}/gi{part.gi}"
    yield f"/dev/nvidia{part.minor}"
    for name in (f"{place}/access", f"{place}/ci{part.ci}/access"):
        if name not in caps:
            raise SandboxUnavailable(f"the NVIDIA driver lists no right to use {name}")
        yield f"/dev/nvidia-caps/nvidia-cap{caps[name]}"


def minors_of(root: Path) -> dict[str, int]:
    """Return the minor number of each GPU, by UUID, as the driver shows it in /proc."""
    minors = {}
    for place in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        lines = (line.partition(":") for line in place.read_text().splitlines())
        fields = {key.strip(): value.strip() for key, _, value in lines}
        if "GPU UUID" in fields and fields.get("Device Minor", "").isdigit():
            minors[fields["GPU UUID"]] = int(fields["Device Minor"])
    return minors


def libraries_in(cache: str) -> tuple[tuple[str, Path], ...]:
    """Return (name to be found by, file) of the driver's libraries in `ldconfig -p`'s output."""
    found: dict[str, Path] = {}
    for line in cache.splitlines():
        match = LIBRARY_LINE.match(line)
        if match and match[2] in LIBRARIES:
            found.setdefault(match[1], Path(match[3]).resolve())
    return tuple(sorted(found.items()))


def _linker_cache() -> str:
    """Return the dynamic linker's cache as text."""
    try:
        done = subprocess.run(
            ["/sbin/ldconfig", "-p"],
            capture_output=True, text=True, check=False, timeout=LDCONFIG_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise SandboxUnavailable(f"cannot find the GPU driver's libraries: {fault}") from fault
    return done.stdout
