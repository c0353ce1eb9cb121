"""A CDI spec with the fields and paths that NVIDIA's toolkit writes, for two GPUs and a part.

Spec: specs/gpus.md#assignment.
"""

import json
from pathlib import Path
from typing import Any

DRIVER = "575.57.08"
HOOK = "/usr/bin/nvidia-cdi-hook"


def device(name: str, *nodes: str) -> dict[str, Any]:
    return {"name": name, "containerEdits": {"deviceNodes": [{"path": node} for node in nodes]}}


def spec_of(libraries: Path) -> dict[str, Any]:
    """Return a spec whose driver's libraries lie in a folder."""
    own = [
        (f"libcuda.so.{DRIVER}", "/usr/lib/x86_64-linux-gnu"),
        (f"libnvidia-ml.so.{DRIVER}", "/usr/lib/x86_64-linux-gnu"),
        ("nvidia-smi", "/usr/bin"), ("nvoptix.bin", "/usr/share/nvidia"),
    ]  # fmt: skip
    mounts = [
        {"hostPath": f"{libraries}/{name}", "containerPath": f"{folder}/{name}",
         "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]}
        for name, folder in own
    ]  # fmt: skip
    link = "libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so"
    return {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [
            device("0", "/dev/nvidia0"),
            device("GPU-a", "/dev/nvidia0", "/dev/dri/card1", "/dev/dri/renderD128"),
            device("GPU-b", "/dev/nvidia3"),
            device("MIG-c", "/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap66"),
            device("all", "/dev/nvidia0", "/dev/nvidia3"),
        ],
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [
                {"path": "/dev/nvidia-modeset"}, {"path": "/dev/nvidia-uvm"},
                {"path": "/dev/nvidiactl"},
            ],
            "hooks": [
                {"hookName": "createContainer", "path": HOOK,
                 "args": ["nvidia-cdi-hook", "create-symlinks", "--link", link]},
                {"hookName": "createContainer", "path": HOOK,
                 "args": ["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib/x86_64"]},
            ],
            "mounts": mounts,
        },
    }  # fmt: skip


def write_spec(root: Path, libraries: Path, folder: str = "etc/cdi") -> Path:
    """Write the spec below a root; return its file."""
    path = root / folder / "nvidia.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(spec_of(libraries)))
    return path
