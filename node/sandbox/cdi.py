"""What NVIDIA's container toolkit says that a container needs for a GPU, by the files of CDI.

CDI is the Container Device Interface. Its files are the machine's own, written by root. We take
from them the device nodes and the libraries that computing needs; no hook of theirs runs.

Spec: specs/gpus.md#assignment.
"""

import json
import logging
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Final

LOG: Final = logging.getLogger(__name__)
FOLDERS: Final = ("etc/cdi", "var/run/cdi")
"""Where CDI's files lie; those of a later folder replace those of an earlier one."""
KIND: Final = "nvidia.com/gpu"
YAML_NAME: Final = re.compile(r"""^\s*(?:-\s+)?name:\s*["']?([\w.:-]+)["']?\s*$""", re.MULTILINE)
"""A device's name in YAML as the toolkit writes it."""
FILE_BYTES_MAX: Final = 4 * 2**20
TOOL: Final = "nvidia-ctk"
TOOL_SECONDS: Final = 20
DISPLAY: Final = ("/dev/dri/card", "/dev/nvidia-modeset", "/dev/fb")
"""Device nodes that show pictures on the owner's screen: no job gets them."""


@dataclass(frozen=True, slots=True)
class Edits:
    """What a container gets for its GPUs."""

    nodes: tuple[str, ...]
    """Device nodes."""
    files: tuple[tuple[Path, PurePosixPath], ...]
    """Files of this machine, and where the toolkit would show each."""
    links: tuple[tuple[str, PurePosixPath], ...]
    """What symbolic links of the toolkit would point to, and where they would be."""


def read_specs(folders: Iterable[Path], *, ask_tool: bool = True) -> list[dict[str, Any]]:
    """Return the specs of NVIDIA GPUs. It blocks.

    The toolkit writes YAML by default: then it is asked for the same as JSON.
    """
    specs, has_yaml = [], False
    for folder in folders:
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            has_yaml = has_yaml or path.suffix in {".yaml", ".yml"}
            if path.suffix == ".json" and (spec := _spec_in(path)) is not None:
                specs.append(spec)
    if not specs and has_yaml and ask_tool and (tool := shutil.which(TOOL)):
        specs += _asked(tool)
    return specs


def names_in(folders: Iterable[Path]) -> frozenset[str]:
    """Return the names of all NVIDIA devices, those in YAML included. It blocks."""
    folders = tuple(folders)
    specs = read_specs(folders, ask_tool=False)
    names = {str(device.get("name", "")) for spec in specs for device in _devices(spec)}
    for path in (path for folder in folders for path in sorted(folder.glob("*.y*ml"))):
        text = _text_of(path) or ""
        names.update(YAML_NAME.findall(text) if KIND in text else ())
    return frozenset(names)


def edits_for(uuids: Sequence[str], specs: Sequence[dict[str, Any]]) -> Edits | None:
    """Return what a container needs for devices; None if the specs do not have all by UUID."""
    nodes: dict[str, None] = {}
    files: dict[Path, PurePosixPath] = {}
    links: dict[PurePosixPath, str] = {}
    for uuid in uuids:
        found = [
            (spec, device) for spec in specs for device in _devices(spec)
            if device.get("name") == uuid
        ]  # fmt: skip
        if not found:
            return None
        spec, device = found[-1]
        for edits in (device.get("containerEdits"), spec.get("containerEdits")):
            if isinstance(edits, dict):
                nodes |= dict.fromkeys(_nodes(edits))
                files |= dict(_files(edits))
                links |= {place: target for target, place in _links(edits)}
    pairs = tuple((target, place) for place, target in links.items())
    return Edits(tuple(nodes), tuple(files.items()), pairs)


def _spec_in(path: Path) -> dict[str, Any] | None:
    text = _text_of(path)
    try:
        spec = json.loads(text or "null")
    except ValueError as fault:
        _say_unused(path, fault)
        return None
    return spec if isinstance(spec, dict) and spec.get("kind") == KIND else None


def _text_of(path: Path) -> str | None:
    try:
        if path.stat().st_size <= FILE_BYTES_MAX:
            return path.read_text()
        _say_unused(path, "it is too large")
    except (OSError, ValueError) as fault:
        _say_unused(path, fault)
    return None


def _say_unused(path: Path, fault: Exception | str) -> None:
    LOG.warning("%s is not used: %s; write it anew with `%s cdi generate`", path, fault, TOOL)


def _asked(tool: str) -> Iterator[dict[str, Any]]:
    """Yield what the toolkit would write now."""
    command = [tool, "cdi", "generate", "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=TOOL_SECONDS)
        spec = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as fault:
        LOG.warning("`%s` does not answer: %s", " ".join(command), fault)
        return
    if isinstance(spec, dict) and spec.get("kind") == KIND:
        yield spec


def _devices(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return _dicts(spec.get("devices"))


def _nodes(edits: dict[str, Any]) -> Iterator[str]:
    """Yield the device nodes for computing."""
    for node in _dicts(edits.get("deviceNodes")):
        path = str(node.get("path", ""))
        own = str(node.get("hostPath") or path)
        if own == path and path.startswith("/dev/") and not path.startswith(DISPLAY):
            yield path


def _files(edits: dict[str, Any]) -> Iterator[tuple[Path, PurePosixPath]]:
    for mount in _dicts(edits.get("mounts")):
        if mount.get("hostPath") and mount.get("containerPath"):
            yield Path(mount["hostPath"]), PurePosixPath(mount["containerPath"])


def _links(edits: dict[str, Any]) -> Iterator[tuple[str, PurePosixPath]]:
    """Yield target and place of the links that the toolkit's hook would make."""
    for hook in _dicts(edits.get("hooks")):
        words = [str(word) for word in hook.get("args") or ()]
        if "create-symlinks" not in words:
            continue
        given = [word for flag, word in pairwise(words) if flag == "--link"]
        for text in given:
            target, mark, place = text.partition("::")
            if mark:
                yield target, PurePosixPath(place)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
