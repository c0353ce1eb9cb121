"""A user's job declaration, and the part of it that a provider receives.

Spec: specs/execution.md#job-spec. A `Workload` states what runs; `Terms` states what the requester
pays and which nodes it asks. Only the winner receives the workload.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Final

from protocol.values.egress import NAME_BYTES_MAX, NAMES_MAX
from protocol.values.egress import faults_of as faults_of_egress
from protocol.values.ids import Digest, JobId, PeerId, digest_of
from protocol.values.limits import (
    CHECKPOINT_MS_MAX,
    CHECKPOINT_MS_MIN,
    ENVELOPE_BYTES_MAX,
    QUERY_BYTES_MAX,
    ROUND_TRIP_US_MAX,
    SLOTS_MAX,
    START_PERCENT_MAX,
)
from protocol.wire.codec import encode
from protocol.wire.schema import DIGEST, PEER, RATE, Bytes, Flag, Int, Key, Many, Record, Text

INPUTS_MAX: Final = 256
ARGUMENTS_MAX: Final = 256
WORKLOAD_BYTES_MAX: Final = ENVELOPE_BYTES_MAX - 256
"""A workload must fit into the message that deploys it."""
MEMBER_BYTES_MAX: Final = 640
"""No Member has more bytes than this."""
TIMEOUT_MS_MAX: Final = 30 * 24 * 3600 * 1000
QUEUE_MS_MAX: Final = TIMEOUT_MS_MAX
CHECKPOINT_MS: Final = 60_000
"""How often a checkpoint is taken, unless the job says otherwise."""
BLOB_SIZE_MAX: Final = 2**43
PREFIX_BYTES: Final = 8
"""How many bytes of a digest name an image or a layer where a wrong guess costs only time."""
LAYERS_MAX: Final = 6
OUTPUT_MIB_MAX: Final = 2**20
ARRAY_MAX: Final = 10_000
"""The most members of an array of jobs."""
ARRAY_ID_BYTES: Final = 12
ARRAY_INDEX_MAX: Final = 2**32 - 1

QUICK: Final = 1
"""Profile Q: one round, pay as bid."""
VICKREY: Final = 2
"""Profile V: commit and reveal, second price."""


@dataclass(frozen=True, slots=True)
class BlobRef:
    """The digest and the size of a blob."""

    digest: Annotated[Digest, Key(1), DIGEST]
    size: Annotated[int, Key(2), Int(0, BLOB_SIZE_MAX)]


NO_LOG: Final = BlobRef(digest_of(b""), 0)
"""The log of a checkpoint."""


@dataclass(frozen=True, slots=True)
class LayerRef:
    """A large layer of an image, so that providers know whether they have it."""

    prefix: Annotated[bytes, Key(1), Bytes(PREFIX_BYTES, PREFIX_BYTES)]
    """The first bytes of its digest."""
    mib: Annotated[int, Key(2), Int(1, BLOB_SIZE_MAX >> 20)]
    """Its size, rounded down."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """A blob with a relative path: an input below /in, an output below /out."""

    path: Annotated[str, Key(1), Text(1024, 1)]
    blob: Annotated[BlobRef, Key(2), Record(BlobRef)]
    executable: Annotated[bool, Key(3), Flag()] = False
    """Whether the job may execute the input, or made the output executable."""
    pack: Annotated[bool, Key(4), Flag()] = False
    """Whether the blob is a pack: the job sees a folder with its content. Only for inputs."""
    bundled: Annotated[bool, Key(5), Flag()] = False
    """Whether the bytes are in the bundle of the listing, not in a blob. Only for outputs."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files of an execution's /out, sorted by path, and its log. Itself stored as a blob.

    A checkpoint is listed in the same way: its files below /out, and an empty log.
    """

    files: Annotated[tuple[FileRef, ...], Key(1), Many(Record(FileRef), 10_000)]
    log: Annotated[BlobRef, Key(2), Record(BlobRef)]
    bundle: Annotated[tuple[BlobRef, ...], Key(3), Many(Record(BlobRef), 1)] = ()
    """The bytes of the bundled files, one after another in the order of the list."""


@dataclass(frozen=True, slots=True)
class EnvVar:
    """One variable of the container's environment."""

    name: Annotated[str, Key(1), Text(128, 1)]
    value: Annotated[str, Key(2), Text(4096, lines=True)]


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources that one slot of a job needs."""

    cpus: Annotated[int, Key(1), Int(1, 4096)] = 1
    memory_mib: Annotated[int, Key(2), Int(16, 2**30)] = 512
    disk_mib: Annotated[int, Key(3), Int(1, 2**30)] = 1024
    gpus: Annotated[int, Key(4), Int(0, 64)] = 0
    gpu_class: Annotated[str, Key(5), Text(40)] = ""
    vram_mib: Annotated[int, Key(6), Int(0, 2**24)] = 0
    shm_mib: Annotated[int, Key(8), Int(0, 2**30)] = 0
    """The size of /dev/shm, which counts as memory; 0: half of the memory."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a gang: its node, and where that listens."""

    peer: Annotated[PeerId, Key(1), PEER]
    addresses: Annotated[tuple[str, ...], Key(2), Many(Text(128, 1), 4)] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything that a provider must know to run a job."""

    image: Annotated[Digest, Key(1), DIGEST]
    command: Annotated[tuple[str, ...], Key(2), Many(Text(65_536, lines=True), ARGUMENTS_MAX)]
    env: Annotated[tuple[EnvVar, ...], Key(3), Many(Record(EnvVar), 128)] = ()
    inputs: Annotated[tuple[FileRef, ...], Key(4), Many(Record(FileRef), INPUTS_MAX)] = ()
    resources: Annotated[Resources, Key(5), Record(Resources)] = Resources()
    timeout_ms: Annotated[int, Key(6), Int(1_000, TIMEOUT_MS_MAX)] = 3_600_000
    output_mib: Annotated[int, Key(7), Int(1, OUTPUT_MIB_MAX)] = 256
    log_mib: Annotated[int, Key(8), Int(1, 1024)] = 16
    processes: Annotated[int, Key(9), Int(1, 65_536)] = 256
    image_bytes: Annotated[int, Key(10), Int(0, BLOB_SIZE_MAX)] = 0
    """The total size of the image's blobs, so a provider can estimate the fetch."""
    checkpoint: Annotated[str, Key(11), Text(1024)] = ""
    """The file or folder below /out that the job continues from elsewhere; empty: none."""
    checkpoint_ms: Annotated[int, Key(12), Int(CHECKPOINT_MS_MIN, CHECKPOINT_MS_MAX)] = (
        CHECKPOINT_MS
    )
    """How often it is taken, if it has changed."""
    resume: Annotated[tuple[BlobRef, ...], Key(13), Many(Record(BlobRef), 1)] = ()
    """The checkpoint that this attempt continues from: the blob that lists its files."""
    members: Annotated[tuple[Member, ...], Key(14), Many(Record(Member), SLOTS_MAX)] = ()
    """The gang that the job is a member of, by rank; empty if it stands alone."""
    disk_in_memory: Annotated[bool, Key(15), Flag()] = False
    """Whether /out, /tmp and /scratch are in memory and count as the job's memory."""
    workdir: Annotated[str, Key(16), Text(1024)] = ""
    """The folder in the container that the command starts in; empty: the image's."""
    egress: Annotated[tuple[str, ...], Key(18), Many(Text(NAME_BYTES_MAX, 1), NAMES_MAX)] = ()
    """The names of the network that the job may reach, or `any`; empty: none."""
    registry: Annotated[str, Key(19), Text(255)] = ""
    """Registry and repository where the image is public; the provider may pull it there."""
    layers: Annotated[tuple[LayerRef, ...], Key(20), Many(Record(LayerRef), LAYERS_MAX)] = ()
    """The largest layers of the image, the largest first."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the requester pays at most, and how it asks for bids."""

    rate_max: Annotated[int, Key(1), RATE]
    """The highest rate; 0 takes it from the list prices that are known at the time of the call."""
    profile: Annotated[int, Key(2), Int(QUICK, VICKREY)] = VICKREY
    region: Annotated[str, Key(3), Text(32)] = ""
    retries: Annotated[int, Key(4), Int(0, 16)] = 2
    drivers: Annotated[tuple[str, ...], Key(5), Many(Text(32, 1), 8)] = ()
    hard_limits: Annotated[bool, Key(6), Flag()] = False
    """Ask only nodes whose kernel enforces every limit of a job."""
    queue_ms: Annotated[int, Key(7), Int(0, QUEUE_MS_MAX)] = 3_600_000
    """How long the job waits at most for capacity, in each attempt; 0: it asks once."""
    priority: Annotated[int, Key(8), Int(-10, 10)] = 0
    """Each step counts as PRIORITY_MS of waiting, among the jobs of this requester."""
    cap_percent: Annotated[int, Key(9), Int(100, 10_000)] = 200
    """Without a highest rate: how far it may be raised, in percent of the median list price."""
    where: Annotated[str, Key(10), Text(QUERY_BYTES_MAX)] = ""
    """A query that a provider must fit."""
    retry_on_exit: Annotated[int, Key(11), Int(0, 16)] = 0
    """How often a job that ended with an error runs again, on another node."""
    nodes: Annotated[int, Key(12), Int(1, SLOTS_MAX)] = 1
    """The number of members of the gang that the job belongs to; 1 if it stands alone."""
    same_region: Annotated[bool, Key(13), Flag()] = False
    """Whether all members of the gang must be in one region."""
    spread_regions: Annotated[bool, Key(14), Flag()] = False
    """Whether each member of the gang must be in a region of its own."""
    max_round_trip_us: Annotated[int, Key(15), Int(0, ROUND_TRIP_US_MAX)] = 0
    """The longest measured round trip between the members of the gang; 0: any."""
    start_percent: Annotated[int, Key(17), Int(0, START_PERCENT_MAX)] = 0
    """How many percent more each minute of earlier start is worth."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job's declaration, as the requester stores it."""

    name: Annotated[str, Key(1), Text(128)]
    workload: Annotated[Workload, Key(2), Record(Workload)]
    terms: Annotated[Terms, Key(3), Record(Terms)]
    key: Annotated[bytes, Key(4), Bytes(0, 64)] = b""
    """The user's idempotency key: a repeated key means the same job, or the same array."""
    array: Annotated[bytes, Key(5), Bytes(0, ARRAY_ID_BYTES)] = b""
    """The id of the array that the job is a member of; empty if it stands alone."""
    index: Annotated[int, Key(6), Int(0, ARRAY_INDEX_MAX)] = 0
    place: Annotated[int, Key(7), Int(0, ARRAY_MAX - 1)] = 0
    """The member's place in its array, from 0: indices may have gaps. In a gang, its rank."""
    max_running: Annotated[int, Key(8), Int(0, ARRAY_MAX)] = 0
    """How many members of the array may have a slot at once; 0: any number."""

    image_name: Annotated[str, Key(9), Text(255)] = ""
    """The name or reference of the image when the job was submitted; its digest decides."""

    @property
    def gang(self) -> bytes:
        """The id of the gang that the job is a member of; empty if there is none."""
        return self.array if self.terms.nodes > 1 else b""


def array_of(specs: Sequence[JobSpec], array: bytes, indices: Sequence[int]) -> list[JobSpec]:
    """Return the jobs as members of one array or gang; each finds its index in its environment."""
    members = []
    for place, (spec, index) in enumerate(zip(specs, indices, strict=True)):
        if spec.terms.nodes > 1:
            own = ("GANG_ID", array.hex()), ("NODES", len(specs)), ("RANK", index)
        else:
            own = ("ARRAY_ID", array.hex()), ("ARRAY_SIZE", len(specs)), ("ARRAY_INDEX", index)
        named = (EnvVar(f"MUTIRAO_{name}", str(value)) for name, value in own)
        workload = replace(spec.workload, env=(*spec.workload.env, *named))
        members.append(replace(spec, workload=workload, array=array, index=index, place=place))
    return members


def gang_of(spec: JobSpec, gang: bytes) -> list[JobSpec]:
    """Return the members of a gang by rank."""
    nodes = spec.terms.nodes
    return array_of([spec] * nodes, gang, range(nodes))


def member_id(array: bytes, index: int) -> JobId:
    """Return the id of a member: its array's id, then its index in 4 bytes."""
    return JobId(array + index.to_bytes(4))


def faults(spec: JobSpec) -> list[str]:
    """Return the errors of a job beyond the bounds of its fields, one line each."""
    nodes = spec.terms.nodes
    return faults_of_workload(spec.workload, nodes * MEMBER_BYTES_MAX if nodes > 1 else 0)


def faults_of_workload(workload: Workload, added_bytes: int = 0) -> list[str]:
    """Return the errors of a workload beyond the bounds of its fields, one line each.

    So many bytes are added to it when it has a slot.
    """
    lines = []
    if not workload.command:
        lines.append("command: a job needs a command; give it after --")
    # The requester adds the resume point later.
    size = len(encode(replace(workload, resume=()))) + added_bytes
    if size > WORKLOAD_BYTES_MAX:
        lines.append(f"command, env and inputs take {size} of at most {WORKLOAD_BYTES_MAX} bytes; "
                     "give long texts as input files")  # fmt: skip
    lines += _faults_of_inputs([file.path for file in workload.inputs])
    if workload.workdir and not is_place(workload.workdir):
        lines.append(f"workdir: {workload.workdir!r} is not an absolute path without .. or empty "
                     "parts; give one such as /in/project")  # fmt: skip
    names = [variable.name for variable in workload.env]
    lines += [f"env {name!r}: an environment variable's name has no '=' and comes once"
              for name in sorted(set(names)) if "=" in name or names.count(name) > 1]  # fmt: skip
    wanted = workload.resources
    if wanted.gpus == 0 and (wanted.gpu_class or wanted.vram_mib):
        lines.append("gpus: the job requires a GPU class or VRAM but no GPU; give --gpus 1")
    if wanted.shm_mib > wanted.memory_mib:
        lines.append(f"shm_mib: {wanted.shm_mib} MiB of /dev/shm count as memory, and the job has "
                     f"{wanted.memory_mib} MiB; give more --memory")  # fmt: skip
    if workload.checkpoint and not is_safe_path(workload.checkpoint):
        lines.append(f"checkpoint: {'/out/' + workload.checkpoint!r} has .. or empty parts; give a "
                     "path such as /out/checkpoint")  # fmt: skip
    if workload.resume and not workload.checkpoint:
        lines.append("resume: the job has no checkpoint")
    if workload.output_mib + workload.log_mib > wanted.disk_mib:
        lines.append("disk: output and log limits are larger than the disk; give more --disk")
    return lines + faults_of_egress(workload.egress)


def _faults_of_inputs(paths: Sequence[str]) -> list[str]:
    """Return the errors of the paths below /in."""
    lines = [f"input {path!r}: paths are relative, without .. or empty parts"
             for path in paths if not is_safe_path(path)]  # fmt: skip
    # Sorted so that a path directly precedes those inside it.
    ordered = sorted(path.replace("/", "\0") for path in paths)
    for before, after in pairwise(ordered):
        inner, outer = after.replace("\0", "/"), before.replace("\0", "/")
        if inner == outer:
            lines.append(f"input {inner!r}: given twice")
        elif after.startswith(f"{before}\0"):
            lines.append(f"input {inner!r}: it lies inside the input {outer!r}; rename one")
    return list(dict.fromkeys(lines))


def is_place(path: str) -> bool:
    """Return whether a path is absolute, without .. or empty parts."""
    return path == "/" or (path.startswith("/") and is_safe_path(path[1:]))


def is_safe_path(path: str) -> bool:
    """Return whether a path stays inside the folder to which it is relative."""
    parts = path.split("/")
    return all(part not in {"", ".", ".."} for part in parts) and "\0" not in path
