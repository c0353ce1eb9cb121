"""The capability record: what a node can run, and how long the statement is valid.

Spec: specs/discovery.md#capability-record.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from protocol.values.egress import Level
from protocol.values.ids import PeerId
from protocol.values.isolation import Isolation
from protocol.values.limits import RECORD_TTL_MS_MAX
from protocol.wire.schema import RATE, Bytes, Flag, Int, Key, Many, Record, Text

IMAGES_MAX: Final = 8
"""The most images, and the most layers, that a record names."""


@dataclass(frozen=True, slots=True)
class GpuGroup:
    """GPUs of one kind in one node."""

    gpu_class: Annotated[str, Key(1), Text(40, 1)]
    count: Annotated[int, Key(2), Int(1, 64)]
    vram_mib: Annotated[int, Key(3), Int(0, 2**24)]
    name: Annotated[str, Key(4), Text(48)] = ""


@dataclass(frozen=True, slots=True)
class Prices:
    """List prices, in nano-credits per second: the most that a provider asks."""

    cpu: Annotated[int, Key(1), RATE] = 0
    memory_gib: Annotated[int, Key(2), RATE] = 0
    gpu: Annotated[int, Key(3), RATE] = 0


@dataclass(frozen=True, slots=True)
class CapabilityRecord:
    """A node's signed statement of what it can run. A higher sequence number replaces a lower."""

    sequence: Annotated[int, Key(1), Int(1)]
    issued_ms: Annotated[int, Key(2), Int()]
    ttl_ms: Annotated[int, Key(3), Int(0, RECORD_TTL_MS_MAX)]
    addresses: Annotated[tuple[str, ...], Key(4), Many(Text(128, 1), 4)]
    providing: Annotated[bool, Key(5), Flag()]
    region: Annotated[str, Key(6), Text(32)] = ""
    cpus: Annotated[int, Key(7), Int(0, 4096)] = 0
    memory_mib: Annotated[int, Key(8), Int(0, 2**30)] = 0
    disk_mib: Annotated[int, Key(9), Int(0, 2**40)] = 0
    gpus: Annotated[tuple[GpuGroup, ...], Key(10), Many(Record(GpuGroup), 8)] = ()
    drivers: Annotated[tuple[str, ...], Key(11), Many(Text(32, 1), 4)] = ()
    prices: Annotated[Prices, Key(12), Record(Prices)] = Prices()
    images: Annotated[tuple[bytes, ...], Key(13), Many(Bytes(8, 8), IMAGES_MAX)] = ()
    """The first 8 bytes of the digests of images that the node already has."""
    agent: Annotated[str, Key(14), Text(32)] = ""
    soft_limits: Annotated[tuple[str, ...], Key(15), Many(Text(16, 1), 4)] = ()
    """Job limits that the kernel does not enforce: `memory`, `pids`, `cpu`."""
    isolation: Annotated[int, Key(16), Int(1, 255)] = Isolation.CONTAINER.value
    layers: Annotated[tuple[bytes, ...], Key(20), Many(Bytes(8, 8), IMAGES_MAX)] = ()
    """The first bytes of the digests of the largest layers that the node has stored."""
    egress: Annotated[int, Key(18), Int(0, Level.ANY)] = Level.NONE.value
    """How far jobs may reach: 0 nowhere, 1 to names that the owner lists, 2 to any."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A record in the directory, with its peer."""

    peer: PeerId
    record: CapabilityRecord
    expires_ms: int
