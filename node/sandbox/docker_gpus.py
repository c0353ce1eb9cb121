"""How a container of Docker Engine gets its GPUs: by CDI if engine and machine know it.

Spec: specs/gpus.md#assignment.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from docker.types import DeviceRequest

from node.sandbox.cdi import KIND, names_in

CDI: Final = "cdi"


def request_for(uuids: tuple[str, ...], info: Mapping[str, Any]) -> DeviceRequest | None:
    """Return the request for NVIDIA devices by UUID; None without any. It reads CDI's files.

    `info` is what the engine says of itself: engine 25 and newer lists CDI's folders if it uses it.
    """
    if not uuids:
        return None
    folders = [Path(str(folder)) for folder in info.get("CDISpecDirs") or ()]
    if folders and names_in(folders).issuperset(uuids):
        return DeviceRequest(driver=CDI, device_ids=[f"{KIND}={uuid}" for uuid in uuids])
    capabilities = [["gpu", "compute", "utility"]]
    return DeviceRequest(device_ids=list(uuids), capabilities=capabilities)


def runtime_for(request: DeviceRequest | None) -> str | None:
    """Return the engine's runtime: one without the vendor's hooks unless they are needed."""
    needs_hooks = request is not None and request.driver != CDI
    return None if needs_hooks else "runc"
