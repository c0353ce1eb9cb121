"""The lines of a trace: what one node saw, without saying who.

The daemon writes them and the laboratory reads them, so both share this file and nothing else.
Spec: specs/trace.md#lines.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from types import NoneType, UnionType
from typing import Any, ClassVar, Final, get_args, get_origin, get_type_hints

FORMAT: Final = "mutirao-trace"
VERSION: Final = 1
"""It changes when older readers would misread a line."""
OWN: Final = 0
"""The number of the node that records."""


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """The first line. All other times are in milliseconds since the start of the trace."""

    kind: ClassVar[str] = "header"
    format: str
    version: int
    code: str
    """The version of the program that wrote it."""


@dataclass(frozen=True, slots=True)
class TracedGpus:
    """GPUs of one class in a node."""

    gpu_class: str
    count: int
    vram_mib: int


@dataclass(frozen=True, slots=True)
class TracedOffer:
    """What a node lends from now on, as its capability record says."""

    kind: ClassVar[str] = "offer"
    at_ms: int
    """When the recording node knew it."""
    peer: int
    cpus: int
    memory_mib: int
    disk_mib: int
    cpu_rate: int
    """List prices, in nano-credits per second: of a processor, a GiB of memory, a GPU."""
    memory_gib_rate: int
    gpu_rate: int
    gpus: tuple[TracedGpus, ...] = ()
    region: int = 0
    """Regions are numbers, too; 0: it names none."""
    images: tuple[int, ...] = ()
    """Those that it has and some job of the trace needs."""


@dataclass(frozen=True, slots=True)
class TracedRoundTrip:
    """A measured round trip from the recording node to a peer."""

    kind: ClassVar[str] = "round-trip"
    at_ms: int
    peer: int
    round_trip_us: int


@dataclass(frozen=True, slots=True)
class TracedJob:
    """A job of the recording node's user. Its fields are those of a job spec."""

    kind: ClassVar[str] = "job"
    at_ms: int
    """When it was submitted."""
    job: int
    image: int
    image_bytes: int
    input_bytes: int
    cpus: int
    memory_mib: int
    disk_mib: int
    timeout_ms: int
    queue_ms: int
    profile: int
    gpus: int = 0
    gpu_class: str = ""
    vram_mib: int = 0
    rate_max: int = 0
    """The highest rate that its user pays; 0: it follows from the list prices."""
    cap_percent: int = 200
    priority: int = 0
    retries: int = 2
    region: int = 0
    nodes: int = 1
    """The members of its gang."""
    gang: int = 0
    """The number of its gang; 0: it stands alone."""


@dataclass(frozen=True, slots=True)
class TracedBid:
    """A bid that was opened."""

    peer: int
    ask: int
    eligible: bool


@dataclass(frozen=True, slots=True)
class TracedRefusal:
    """A node that answered a call and did not bid."""

    peer: int
    reason: str


@dataclass(frozen=True, slots=True)
class TracedEvent:
    """An event of a job (specs/core.md#job-events), without its texts."""

    kind: ClassVar[str] = "event"
    at_ms: int
    job: int
    event: str
    attempt: int | None = None
    provider: int | None = None
    nodes: int | None = None
    eligible: int | None = None
    rate_max: int | None = None
    bids: tuple[TracedBid, ...] = ()
    unopened: int | None = None
    refusals: tuple[TracedRefusal, ...] = ()
    rate: int | None = None
    ask: int | None = None
    runner_up: int | None = None
    exit_code: int | None = None
    usage_ms: int | None = None
    amount: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TracedAnswer:
    """A call of another node that the recording node answered as a provider."""

    kind: ClassVar[str] = "answer"
    at_ms: int
    requester: int
    cpus: int
    memory_mib: int
    disk_mib: int
    gpus: int
    result: str
    ask: int = 0
    price: int = 0
    slots: int = 0
    awards: int = 0
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class TraceEnd:
    """The last line of a recording that was not cut off."""

    kind: ClassVar[str] = "end"
    at_ms: int


TraceLine = (
    TraceHeader | TracedOffer | TracedRoundTrip | TracedJob | TracedEvent | TracedAnswer | TraceEnd
)
LINES: Final[Mapping[str, type[TraceLine]]] = {
    line.kind: line
    for line in (
        TraceHeader, TracedOffer, TracedRoundTrip, TracedJob, TracedEvent, TracedAnswer, TraceEnd,
    )
}  # fmt: skip
NAMES: Final = {int: "a whole number", str: "a text", bool: "true or false"}


class UnreadableLine(ValueError):
    """A line is not one of a trace; the text says why."""


def encode_line(line: TraceLine) -> bytes:
    """Return a line as it is written; a field that has its default is left out."""
    given = asdict(line)
    kept = {
        each.name: given[each.name] for each in fields(line)
        if each.default is MISSING or getattr(line, each.name) != each.default
    }  # fmt: skip
    return json.dumps({"kind": line.kind, **kept}, separators=(",", ":")).encode() + b"\n"


def decode_line(text: str | bytes) -> TraceLine:
    """Return the line in a text; UnreadableLine. A field that is not known is ignored."""
    try:
        found = json.loads(text)
    except ValueError:
        raise UnreadableLine("it is no JSON") from None
    kind = found.get("kind") if isinstance(found, dict) else None
    if not isinstance(kind, str) or kind not in LINES:
        raise UnreadableLine(f"`kind` should be one of {', '.join(LINES)}")
    line: TraceLine = _record(found, LINES[kind])
    return line


def require_version(line: TraceLine) -> None:
    """Raise UnreadableLine unless a trace that begins with this line can be read."""
    if not isinstance(line, TraceHeader) or line.format != FORMAT:
        raise UnreadableLine("it does not begin with the header of a trace")
    if line.version != VERSION:
        raise UnreadableLine(
            f"it is a trace of version {line.version}, and this program reads version {VERSION}"
            f" (it was written by {line.code})"
        )


def _record(found: Mapping[str, Any], wanted: type) -> Any:
    hints = get_type_hints(wanted)
    return wanted(**{
        each.name: _field(found, each, hints[each.name])
        for each in fields(wanted)
        if each.name in found or each.default is MISSING
    })  # fmt: skip


def _field(found: Mapping[str, Any], about: Field[Any], hint: Any) -> Any:
    if about.name not in found:
        raise UnreadableLine(f"`{about.name}` is missing")
    try:
        return _value(found[about.name], hint)
    except TypeError as error:
        raise UnreadableLine(f"`{about.name}` should be {error}") from None


def _value(value: Any, hint: Any) -> Any:
    """Return a value as its type wants it; TypeError says what that is."""
    if get_origin(hint) is UnionType:
        (inner,) = (each for each in get_args(hint) if each is not NoneType)
        return None if value is None else _value(value, inner)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise TypeError("a list")
        return tuple(_value(each, get_args(hint)[0]) for each in value)
    if hint in NAMES:
        if type(value) is not hint:
            raise TypeError(NAMES[hint])
        return value
    if not isinstance(value, dict):
        raise TypeError("an object")
    return _record(value, hint)
