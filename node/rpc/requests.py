"""Converts the JSON of a request to a job spec.

pydantic checks the form of the JSON here; the bounds of the values are those of the wire
(protocol/wire/job.py), so each bound is defined once.
Spec: specs/rpc.md#job-request.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from protocol.rules.contradictions import conditions_of, contradiction
from protocol.rules.query import parse
from protocol.values.egress import expanded
from protocol.values.errors import InvalidRequest
from protocol.values.ids import Digest
from protocol.values.isolation import TIERS
from protocol.values.units import rate_of_hourly
from protocol.wire.job import (
    ARRAY_ID_BYTES,
    ARRAY_INDEX_MAX,
    ARRAY_MAX,
    OUTPUT_MIB_MAX,
    QUICK,
    VICKREY,
    BlobRef,
    EnvVar,
    FileRef,
    JobSpec,
    Resources,
    Terms,
    Workload,
    array_of,
    faults,
)
from protocol.wire.schema import to_plain
from protocol.wire.snapshot import to_snapshot

PROFILES: Final = {"quick": QUICK, "vickrey": VICKREY}
RESOURCES: Final = ("cpus", "memory_mib", "disk_mib", "gpus", "gpu_class", "vram_mib", "shm_mib")
LIMITS: Final = (
    "timeout_ms", "output_mib", "log_mib", "processes", "checkpoint_ms", "disk_in_memory",
)  # fmt: skip
OUT: Final = "/out/"
OUTPUT_MIB, LOG_MIB = 256, 16
"""Default limits of outputs in memory, and of the log, for a job with a large disk."""
INDICES: Final = re.compile(r"(\d{1,10})(?:-(\d{1,10})(?::([1-9]\d{0,9}))?)?")
LIMIT: Final = re.compile(r"[1-9]\d{0,4}")
FAULTS_MAX: Final = 10
ARRAY_BYTES_MAX: Final = 64 * 2**20
"""Each job of an array is stored whole."""
TERMS: Final = (
    "region",
    "retries",
    "retry_on_exit",
    "queue_ms",
    "priority",
    "cap_percent",
    "where",
    "nodes",
    "same_region",
    "spread_regions",
    "max_round_trip_us",
    "start_percent",
)


@dataclass(frozen=True, slots=True)
class JobImage:
    """The image of a job: its digest in hex, the name that it had, and where it is public."""

    digest: str
    name: str = ""
    source: str = ""


DigestHex = Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{64}$")]


class InputRequest(BaseModel):
    """A blob that this node has, and its path below /in."""

    model_config = ConfigDict(extra="forbid", strict=True)
    path: str
    digest: DigestHex
    size: int
    executable: bool = False
    pack: bool = Field(
        default=False, description="The blob is a pack of a folder: specs/inputs.md#packs."
    )


class JobRequest(BaseModel):
    """A job to run. Omitted fields have the defaults of protocol/wire/job.py."""

    model_config = ConfigDict(extra="forbid", strict=True)
    image: str = Field(
        description="A name, a digest, a digest's prefix of 12 digits or more, or a reference."
    )
    pull: Literal["missing", "always", "never"] = Field(
        "missing", description="When the node pulls the image from its registry."
    )
    command: list[str]
    max_price: str | None = Field(
        default=None, description="Credits per hour for the whole slot, as text."
    )
    cap_percent: int | None = None
    name: str = ""
    env: dict[str, str] = {}
    inputs: list[InputRequest] = []
    cpus: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    disk_in_memory: bool | None = Field(
        None, description="/out, /tmp and /scratch in memory, which counts as the job's."
    )
    gpus: int | None = None
    gpu_class: str | None = None
    vram_mib: int | None = None
    shm_mib: int | None = Field(None, description="Size of /dev/shm; half of the memory if null.")
    timeout_ms: int | None = None
    output_mib: int | None = None
    log_mib: int | None = None
    processes: int | None = None
    profile: Literal["quick", "vickrey"] = "vickrey"
    region: str | None = None
    retries: int | None = None
    retry_on_exit: int | None = None
    queue_ms: int | None = None
    priority: int | None = None
    drivers: list[str] = []
    hard_limits: bool = False
    allow_net: list[str] = Field(
        [], description="Names that the job may reach, or `any`: specs/egress.md#names."
    )
    where: str | None = Field(None, description="A query for providers: specs/query.md.")
    isolation: str | None = Field(
        None, description="The weakest sandbox that will do: specs/discovery.md#isolation."
    )
    checkpoint: str | None = Field(
        None, description="A file or folder below /out that the job continues from elsewhere."
    )
    checkpoint_ms: int | None = None
    workdir: str | None = Field(
        None, description="The folder that the command starts in, such as /in/project."
    )
    array: str | None = Field(
        None,
        description="Indices of many equal jobs: 0-99, 0-98:2, 1,7. 0-99%20: at most 20 at once.",
    )
    nodes: int | None = Field(None, description="The members of a gang: all run at once, or none.")
    same_region: bool | None = Field(None, description="All members of a gang in one region.")
    spread_regions: bool | None = Field(
        None, description="Each member of a gang in a region of its own."
    )
    start_percent: int | None = Field(
        None, description="How many percent more each minute of earlier start is worth."
    )
    max_round_trip_us: int | None = Field(
        None, description="The longest measured round trip between members of a gang; 0: any."
    )

    @property
    def is_many(self) -> bool:
        """Whether it stands for several jobs: an array or a gang."""
        return self.array is not None or (self.nodes or 1) > 1


def array_specs_of(
    requests: Sequence[JobRequest], images: Mapping[str, JobImage], key: str
) -> tuple[list[JobSpec], list[int]]:
    """Return the jobs of an array and their indices. `images` has each image by its name.

    One request with `array` stands for equal jobs; others get their place as index. Raises
    InvalidRequest, which names every job at fault, up to ten.
    """
    if not 0 < len(requests) <= ARRAY_MAX:
        raise InvalidRequest(f"{len(requests)} jobs; an array has 1 to {ARRAY_MAX}: split it")
    if len(requests) == 1 and requests[0].is_many:
        indices, max_running = _members_of(requests[0])
        spec = job_spec_of(requests[0], images[requests[0].image], key)
        spec = replace(spec, max_running=max_running)
        if len(indices) * len(to_snapshot(spec)) > ARRAY_BYTES_MAX:
            raise InvalidRequest("the jobs of this array are too large; give long texts as inputs")
        _check(array_of([spec], bytes(ARRAY_ID_BYTES), indices[-1:])[0])
        return [spec] * len(indices), indices
    if any(request.is_many for request in requests):
        raise InvalidRequest("array: a job of an array is neither an array nor a gang itself")
    specs, faulty = [], []
    for place, request in enumerate(requests):
        try:
            spec = job_spec_of(request, images[request.image], key)
            _check(array_of([spec], bytes(ARRAY_ID_BYTES), [place])[0])
            specs.append(spec)
        except InvalidRequest as error:
            faulty.append(f"job {place}: {error}")
    if faulty:
        raise InvalidRequest("; ".join(faulty[:FAULTS_MAX]))
    return specs, list(range(len(specs)))


def _members_of(request: JobRequest) -> tuple[list[int], int]:
    """Return the indices of an array and how many may run at once, or the ranks of a gang."""
    if request.array is None:
        return list(range(min(request.nodes or 1, ARRAY_MAX))), 0
    if (request.nodes or 1) > 1:
        raise InvalidRequest("nodes: an array of gangs does not exist; give nodes or array")
    return array_of_text(request.array)


def array_of_text(text: str) -> tuple[list[int], int]:
    """Return the indices in "0-99", "0-98:2" or "1,7", sorted, and how many may run at once.

    That number follows after %, as in "0-99%20"; without it, it is 0: any number. Raises
    InvalidRequest.
    """
    given, percent, limit = text.partition("%")
    if percent and not LIMIT.fullmatch(limit):
        raise InvalidRequest(f"array: {limit[:40]!r} is no number of jobs to run at once")
    return _indices_of(given), min(int(limit or 0), ARRAY_MAX)


def _indices_of(text: str) -> list[int]:
    ranges = []
    for part in text.split(","):
        match = INDICES.fullmatch(part.strip())
        first, last, step = (int(each or 0) for each in match.groups()) if match else (1, 0, 0)
        last = last if match and match[2] else first
        if match is None or not first <= last <= ARRAY_INDEX_MAX:
            raise InvalidRequest(f"array: {part[:40]!r} is not a range such as 0-99 or 0-98:2")
        ranges.append(range(first, last + 1, step or 1))
    count = sum(map(len, ranges))
    if count > ARRAY_MAX:
        raise InvalidRequest(f"array: {count} jobs; an array has at most {ARRAY_MAX}: split it")
    return sorted({index for each in ranges for index in each})


def job_spec_of(request: JobRequest, image: JobImage, key: str) -> JobSpec:
    """Return the spec of a request whose image was resolved.

    Raises InvalidRequest, with every fault in one line, if the protocol does not allow the job.
    """
    _check_gang(request)
    terms = Terms(
        rate_max=_rate_max(request.max_price),
        profile=PROFILES[request.profile],
        drivers=tuple(request.drivers),
        hard_limits=request.hard_limits,
        **{**_given(request, TERMS), "where": _where(request)},
    )
    workload = replace(_workload(request, image.digest), registry=image.source)
    spec = JobSpec(request.name, workload, terms, key.encode(), image_name=image.name)
    _check(spec)
    return spec


def _where(request: JobRequest) -> str:
    """Return the query for providers, with the isolation that the request needs."""
    if request.isolation is None:
        return request.where or ""
    if request.isolation not in TIERS:
        raise InvalidRequest(f"isolation: {request.isolation[:40]!r} is none of {', '.join(TIERS)}")
    least = f"isolation>={request.isolation}"
    return f"({request.where}) {least}" if request.where else least


def _check_gang(request: JobRequest) -> None:
    """Raise InvalidRequest if the request says what only a gang can have, or contradicts itself."""
    is_gang = (request.nodes or 1) > 1
    if request.same_region and not is_gang:
        raise InvalidRequest("same_region: only a gang has members to keep together; give nodes")
    if request.max_round_trip_us and not is_gang:
        raise InvalidRequest("max_round_trip_us: a job alone has no other members; give nodes")
    if not request.spread_regions:
        return
    if not is_gang:
        raise InvalidRequest("spread_regions: only a gang has members to spread; give nodes")
    for field in ("same_region", "region"):
        if getattr(request, field):
            raise InvalidRequest(f"spread_regions: it contradicts {field}; give one of them")


def _rate_max(max_price: str | None) -> int:
    """Return the highest rate; 0 if the request names no price."""
    if max_price is None:
        return 0
    try:
        rate = rate_of_hourly(max_price)
    except (ValueError, ArithmeticError) as error:  # Such as 1e999999999, beyond any decimal.
        why = str(error) if isinstance(error, ValueError) else "not a price"
        raise InvalidRequest(f"max_price: {why}") from None
    if not rate:
        why = "a job that pays nothing gets no bids; give a price above 0, or none"
        raise InvalidRequest(f"max_price: {why}")
    return rate


def digest_of_hex(text: str) -> Digest:
    """Return the digest of 64 hex digits, with or without the prefix "sha256:"."""
    return Digest(bytes.fromhex(text.removeprefix("sha256:")))


def _workload(request: JobRequest, image: str) -> Workload:
    resources = Resources(**_given(request, RESOURCES))
    # A small disk implies small limits, unless they are given.
    limits = {
        "log_mib": min(LOG_MIB, max(1, resources.disk_mib // 4)),
        **_given(request, LIMITS),
    }
    if "output_mib" not in limits:
        in_memory = bool(request.disk_in_memory)
        limits["output_mib"] = _output_mib(resources.disk_mib, limits["log_mib"], in_memory)
    return Workload(
        image=digest_of_hex(image),
        command=tuple(request.command),
        env=tuple(EnvVar(name, value) for name, value in request.env.items()),
        inputs=tuple(
            FileRef(
                each.path,
                BlobRef(digest_of_hex(each.digest), each.size),
                executable=each.executable,
                pack=each.pack,
            )
            for each in request.inputs
        ),
        resources=resources,
        checkpoint=_below_out(request.checkpoint),
        workdir=request.workdir or "",
        egress=expanded(request.allow_net),
        **limits,
    )


def _output_mib(disk_mib: int, log_mib: int, in_memory: bool) -> int:  # noqa: FBT001
    """Return how large /out may be unless the job says so: the disk that the log leaves."""
    if in_memory:
        return min(OUTPUT_MIB, max(1, disk_mib // 2))
    return min(OUTPUT_MIB_MAX, max(1, disk_mib - log_mib))


def _below_out(checkpoint: str | None) -> str:
    """Return the path of a checkpoint below /out; "" if the job has none."""
    if checkpoint is None:
        return ""
    if not checkpoint.startswith(OUT) or checkpoint == OUT:
        raise InvalidRequest(f"checkpoint: {checkpoint!r} is not below /out; give /out/checkpoint")
    return checkpoint.removeprefix(OUT)


def _given(request: JobRequest, names: tuple[str, ...]) -> dict[str, Any]:
    values = ((name, getattr(request, name)) for name in names)
    return {name: value for name, value in values if value is not None}


def _check(spec: JobSpec) -> None:
    try:
        to_plain(spec)  # Checks every bound; the result is not used.
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    found = faults(spec)
    conditions = conditions_of(spec.workload.resources, spec.terms.region)
    if wrong := contradiction(parse(spec.terms.where, public=True), conditions):
        found.append(f"where: {wrong}")
    if found:
        raise InvalidRequest("; ".join(found))
