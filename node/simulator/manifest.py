"""The manifest of a run: all that is needed to make the same run again, and to trust that it is.

The wall clock is here and nowhere else in the results; whoever starts a run reads it.
Spec: specs/simulation-results.md#manifest.
"""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

import node
from node.simulator.engine import TICKS_PER_MS
from node.simulator.simulation import Simulation
from protocol.values.errors import InvalidRequest, NodeError, NotFound

FILE: Final = "manifest.json"
FORMAT: Final = 1
"""It changes when older readers would misread a manifest or a table."""
TICK_US: Final = 1000 // TICKS_PER_MS
Wall = tuple[str, str]
"""When a run began and ended, by the wall clock, ISO 8601."""


class NamedSettings(Protocol):
    """What a manifest needs of a scenario's settings."""

    @property
    def name(self) -> str: ...

    @property
    def tier(self) -> str: ...

    @property
    def horizon(self) -> int: ...


class Described(Protocol):
    """What a manifest needs of a scenario."""

    @property
    def settings(self) -> Any:
        """Return `NamedSettings`."""
        ...

    @property
    def values(self) -> Mapping[str, Any]:
        """The values that its author gave, by dotted key."""
        ...

    @property
    def digest(self) -> str:
        """The SHA-256 of what of them decides a run."""
        ...


def manifest_of(
    scenario: Described, repetition: int, simulation: Simulation, until_ms: int,
    wall: Wall = ("", ""),
) -> dict[str, Any]:  # fmt: skip
    """Return the manifest of a run that has come to a time, in ms since its start."""
    settings: NamedSettings = scenario.settings
    return {
        "format": FORMAT,
        "name": settings.name,
        "tier": settings.tier,
        "repetition": repetition,
        "seed": simulation.seed,
        "scenario": {key: _plain(scenario.values[key]) for key in sorted(scenario.values)},
        "scenario_sha256": scenario.digest,
        "code": node.VERSION,
        "commit": commit_of(Path(node.__file__).parent.parent),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "tick_us": TICK_US,
        "until_ms": until_ms,
        "complete": until_ms >= settings.horizon,
        "events": simulation.engine.events,
        "digest": simulation.network.digest.hex(),
        "started": wall[0],
        "finished": wall[1],
    }


def encode(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest as it is written."""
    return json.dumps(manifest, indent=2, ensure_ascii=False).encode() + b"\n"


def read(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder.

    NotFound if there is none; InvalidRequest if it is none, or of another version.
    """
    path = folder / FILE
    try:
        manifest = json.loads(path.read_bytes())
        found = manifest["format"]
    except FileNotFoundError:
        raise NotFound(f"{folder} has no {FILE}: it is no run") from None
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise InvalidRequest(f"{path} is no manifest of a run") from None
    if found != FORMAT:
        code = manifest.get("code", "unknown")
        raise InvalidRequest(
            f"{path} has format {found}, written by version {code}; this program reads {FORMAT}"
        )
    return dict(manifest)


def manifest_in(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a complete run; None if this folder has none that can be read."""
    try:
        manifest = read(folder)
    except NodeError:
        return None
    return manifest if manifest["complete"] else None


def commit_of(folder: Path) -> str | None:
    """Return the commit of the working tree that a folder is the root of; None if it is none."""
    place = folder / ".git"
    try:
        if place.is_file():  # A further working tree of a repository.
            place = folder / place.read_text().removeprefix("gitdir:").strip()
        head = (place / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        shared = place / "commondir"
        root = place / shared.read_text().strip() if shared.exists() else place
        if (root / name).exists():
            return (root / name).read_text().strip()
        packed = (root / "packed-refs").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it."""
    return value if isinstance(value, bool | int | float | str | list | dict) else str(value)
