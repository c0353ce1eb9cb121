"""A job as the user wrote it, on the command line or in a file, before its inputs are uploaded.

Spec: specs/rpc.md#job-file.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A blob that the node has, and its path under /in."""

    path: str
    digest: str
    size: int
    executable: bool = False
    pack: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """The user's values; None means the default. `max_price` is in credits per hour."""

    image: str
    command: tuple[str, ...]
    pull: str | None = None
    inputs: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    name: str | None = None
    cpus: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    disk_in_memory: bool | None = None
    gpus: int | None = None
    gpu_class: str | None = None
    vram_mib: int | None = None
    shm_mib: int | None = None
    timeout_ms: int | None = None
    output_mib: int | None = None
    log_mib: int | None = None
    processes: int | None = None
    max_price: str | None = None
    cap_percent: int | None = None
    profile: str | None = None
    region: str | None = None
    retries: int | None = None
    retry_on_exit: int | None = None
    queue_ms: int | None = None
    priority: int | None = None
    drivers: tuple[str, ...] = ()
    hard_limits: bool | None = None
    allow_net: tuple[str, ...] = ()
    where: str | None = None
    isolation: str | None = None
    checkpoint: str | None = None
    checkpoint_ms: int | None = None
    array: str | None = None
    nodes: int | None = None
    same_region: bool | None = None
    spread_regions: bool | None = None
    max_round_trip_us: int | None = None
    workdir: str | None = None
    exclude: tuple[str, ...] = ()
    default_excludes: bool | None = None
    start_percent: int | None = None


SENT_AS_GIVEN = (
    "pull", "name", "cpus", "memory_mib", "disk_mib", "disk_in_memory", "gpus", "gpu_class",
    "vram_mib", "shm_mib",
    "timeout_ms",
    "output_mib", "log_mib", "processes", "max_price", "cap_percent", "profile", "region",
    "retries", "retry_on_exit", "queue_ms", "priority", "hard_limits", "where", "isolation",
    "checkpoint", "checkpoint_ms", "array", "nodes", "same_region", "spread_regions",
    "max_round_trip_us", "workdir", "start_percent",
)  # fmt: skip


def request_of(draft: Draft, uploaded: tuple[Uploaded, ...]) -> dict[str, Any]:
    """Return the JSON of POST /v1/jobs for a draft whose inputs the node has."""
    given = {name: getattr(draft, name) for name in SENT_AS_GIVEN}
    return {
        "image": draft.image,
        "command": list(draft.command),
        "env": dict(draft.env),
        "inputs": [asdict(each) for each in uploaded],
        "drivers": list(draft.drivers),
        "allow_net": list(draft.allow_net),
        **{name: value for name, value in given.items() if value is not None},
    }
