"""The manifest of a run: all that is needed to make the same run again, and to trust that it is.

The wall clock is here and nowhere else in the results; the one who starts a run reads it.
Spec: specs/simulation-results.md#files.
"""

import hashlib
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

import node
from node.simulator.engine import TICKS_PER_MS
from protocol.values.errors import InvalidRequest, NotFound

FILE: Final = "manifest.json"
FORMAT: Final = 1
"""It changes when older readers would misread a manifest or a table."""
TICK_US: Final = 1000 // TICKS_PER_MS
Parameter = str | int | float | bool


@dataclass(frozen=True, slots=True)
class RunDone:
    """What is known of one run when it has ended."""

    name: str
    seed: int
    tier: str
    scenario: str
    """The values of its scenario, as JSON."""
    repetition: int
    events: int
    digest: str
    started: str
    """Wall time, ISO 8601."""
    finished: str
    parameters: dict[str, Parameter] = field(default_factory=dict)
    """Where the run stands on each axis of its sweep."""
    complete: bool = True
    """Whether it came to its end, and was not interrupted."""


def manifest_of(run: RunDone) -> dict[str, Any]:
    """Return the manifest of a run with this program."""
    return {
        "format": FORMAT,
        "name": run.name,
        "seed": run.seed,
        "tier": run.tier,
        "parameters": dict(sorted(run.parameters.items())),
        "repetition": run.repetition,
        "complete": run.complete,
        "scenario": run.scenario,
        "scenario_sha256": hashlib.sha256(run.scenario.encode()).hexdigest(),
        "code": node.VERSION,
        "commit": commit_of(Path(node.__file__).parent.parent),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "tick_us": TICK_US,
        "events": run.events,
        "digest": run.digest,
        "started": run.started,
        "finished": run.finished,
    }


def encode(manifest: dict[str, Any]) -> bytes:
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
        raise InvalidRequest(
            f"{path} is of format {found}, and this program reads format {FORMAT}"
            f" (it was written by version {manifest.get('code', 'unknown')})"
        )
    return dict(manifest)


def commit_of(folder: Path) -> str | None:
    """Return the commit of the working tree that a folder is the root of; None if it is none."""
    place = folder / ".git"
    try:
        if place.is_file():  # A further worktree.
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
