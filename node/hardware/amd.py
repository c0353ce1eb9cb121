"""AMD GPUs, as `amd-smi` reports them. Nothing is guessed; what it does not report is None.

The program comes with ROCm. It is asked for JSON; its form differs between versions: a list, or an
object that holds it; numbers with a unit, or alone, or "N/A".
Spec: specs/capability.md#amd.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from node.hardware.gpu import AMD_PREFIX, Gpu, GpuReading
from node.hardware.gpu_class import gpu_class

TOOL: Final = "amd-smi"
ROCM_TOOL: Final = "/opt/rocm/bin/amd-smi"
"""Where ROCm puts it; it is not always on the PATH."""
TOOL_SECONDS: Final = 20
ANSWER_BYTES_MAX: Final = 8 * 2**20
SYS: Final = Path("/sys")
METRICS: Final = ("--usage", "--power", "--temperature", "--ecc", "--mem-usage")
MIB_IN: Final = {"B": 2**-20, "KB": 2**-10, "MB": 1, "GB": 2**10}


class _NoAnswer(Exception):
    """Why amd-smi did not answer."""


def take_amd_gpus() -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs in the order of amd-smi, and why there are none or fewer than expected.

    A machine without amd-smi has nothing to explain. It blocks, for a second or more.
    """
    if _tool() is None:
        return (), ""
    try:
        listed, static = _asked("list"), _by_index(_asked("static"))
    except _NoAnswer as fault:
        return (), str(fault)
    gpus = [_gpu(one, static.get(one.get("gpu"), {})) for one in listed]
    return tuple(gpu for gpu in gpus if gpu is not None), ""


def take_render_nodes(sys: Path = SYS) -> dict[str, str]:
    """Return the device node of each GPU, by UUID; without those that have none. It blocks."""
    try:
        listed = _asked("list")
    except _NoAnswer:
        return {}
    nodes = {}
    for one in listed:
        folder = sys / "bus/pci/devices" / str(one.get("bdf", "")).lower() / "drm"
        for place in sorted(folder.glob("renderD*")):
            nodes[_uuid(one)] = f"/dev/dri/{place.name}"
    return nodes


class AmdReader:
    """Reads what AMD GPUs report while they work. Each reading starts amd-smi."""

    pause_s = 15

    def read(self, gpus: Iterable[Gpu]) -> list[GpuReading]:
        """Return a reading of each GPU. It blocks, for a second or more."""
        gpus = list(gpus)
        try:
            uuids = {one.get("gpu"): _uuid(one) for one in _asked("list")}
            metrics = {uuids.get(one.get("gpu")): one for one in _asked("metric", *METRICS)}
        except _NoAnswer as fault:
            return [GpuReading(gpu.uuid, lost=str(fault)) for gpu in gpus]
        return [_reading(gpu, metrics.get(gpu.uuid)) for gpu in gpus]

    def close(self) -> None:
        """Do nothing: no process is left."""


def _gpu(listed: dict[str, Any], static: dict[str, Any]) -> Gpu | None:
    """Return one GPU; None if it has no UUID or name, or shares the processor's memory."""
    asic, vram, limit = (_part(static, name) for name in ("asic", "vram", "limit"))
    name = asic.get("market_name")
    kind = str(vram.get("type", ""))
    if not listed.get("uuid") or not isinstance(name, str) or kind.startswith(("DDR", "LPDDR")):
        return None
    power = limit.get("max_power", _part(limit, "ppt0").get("max_power_limit"))
    version = _part(static, "driver").get("version")
    return Gpu(
        uuid=_uuid(listed),
        name=name,
        gpu_class=gpu_class(name),
        vram_mib=_mib(vram.get("size")),
        driver=version if isinstance(version, str) and version != "N/A" else None,
        cuda=None,
        compute=None,
        pci=str(listed.get("bdf")) if listed.get("bdf") else None,
        minor=None,
        cores=None,
        power_limit_w=_number(power),
        memory_clock_mhz=None,
        memory_bus_bits=_number(vram.get("bit_width")),
        ecc=None,
        mig_enabled=False,
        mig_devices=(),
        vendor="amd",
        slowdown_c=_number(limit.get("slowdown_hotspot_temperature")),
    )


def _reading(gpu: Gpu, metrics: dict[str, Any] | None) -> GpuReading:
    if metrics is None:
        return GpuReading(gpu.uuid, lost="it is gone from the machine: see `amd-smi list`")
    heat = _part(metrics, "temperature")
    hottest = _number(heat.get("hotspot"))
    return GpuReading(
        uuid=gpu.uuid,
        utilisation_percent=_number(_part(metrics, "usage").get("gfx_activity")),
        memory_used_mib=_mib(_part(metrics, "mem_usage").get("used_vram")),
        temperature_c=_number(heat.get("edge")) if hottest is None else hottest,
        slowdown_c=gpu.slowdown_c,
        power_w=_number(_part(metrics, "power").get("socket_power")),
        ecc_errors=_number(_part(metrics, "ecc").get("total_uncorrectable_count")),
    )


def _uuid(listed: dict[str, Any]) -> str:
    return f"{AMD_PREFIX}{listed.get('uuid')}"


def _tool() -> str | None:
    return shutil.which(TOOL) or shutil.which(ROCM_TOOL)


def _asked(command: str, *options: str) -> list[dict[str, Any]]:
    """Return what amd-smi says of each GPU; _NoAnswer."""
    tool = _tool()
    if tool is None:
        raise _NoAnswer(f"{TOOL} is gone: install ROCm anew")
    try:
        done = subprocess.run(
            [tool, command, *options, "--json"],
            stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=TOOL_SECONDS,
        )  # fmt: skip
        found = json.loads(done.stdout[:ANSWER_BYTES_MAX])
    except (OSError, ValueError, subprocess.SubprocessError) as fault:
        raise _NoAnswer(f"`{TOOL} {command}` does not answer: {fault}") from None
    inner = found.get("gpu_data") if isinstance(found, dict) else found
    if not isinstance(inner, list):
        raise _NoAnswer(f"`{TOOL} {command}` answers in an unknown form")
    return [one for one in inner if isinstance(one, dict)]


def _by_index(answers: Iterable[dict[str, Any]]) -> dict[object, dict[str, Any]]:
    return {one.get("gpu"): one for one in answers}


def _part(answer: dict[str, Any], name: str) -> dict[str, Any]:
    found = answer.get(name)
    return found if isinstance(found, dict) else {}


def _number(value: object) -> int | None:
    """Return a number with or without its unit; None if it is none."""
    if isinstance(value, dict):
        value = value.get("value")
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mib(value: object) -> int | None:
    """Return an amount of memory."""
    unit = str(value.get("unit", "MB")) if isinstance(value, dict) else "MB"
    number = _number(value)
    return None if number is None or unit not in MIB_IN else int(number * MIB_IN[unit])
