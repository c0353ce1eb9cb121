"""NVIDIA devices for the embedded driver: what the vendor's container toolkit would bind.

A container gets only its own devices, the control nodes that they need, and the user-space driver
libraries under the names that programs look for. No hook of the vendor runs.

Spec: specs/sandbox.md#gpus.
"""

import re
import subprocess
from pathlib import Path
from typing import Final

from node.sandbox.bwrap import Extra
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
INSIDE: Final = "/dev/nvidia-libraries"
"""In /dev, since an image's folders are read-only and we fill /dev ourselves."""
LDCONFIG_SECONDS: Final = 20


def extra_for(devices: tuple[str, ...], root: Path = Path("/")) -> Extra:
    """Return what a container needs to use the devices with these UUIDs.

    SandboxUnavailable if this machine's driver does not know one of them.
    """
    minors = minors_of(root)
    missing = [uuid for uuid in devices if uuid not in minors]
    if missing:
        raise SandboxUnavailable(f"this machine has no GPU {missing[0]}; see `mutirao status`")
    nodes = [f"/dev/nvidia{minors[uuid]}" for uuid in devices]
    nodes += [f"/dev/{name}" for name in CONTROL if (root / "dev" / name).exists()]
    libraries = libraries_in(_linker_cache())
    binds = tuple((path, f"{INSIDE}/{name}") for name, path in libraries)
    return Extra(tuple(nodes), binds, (("LD_LIBRARY_PATH", INSIDE),))


def minors_of(root: Path) -> dict[str, int]:
    """Return the minor number of each device, by UUID, as the driver shows it in /proc."""
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
