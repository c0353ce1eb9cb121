"""All settings, each with its type, its default and a sentence for `mutirao config`.

Spec: specs/configuration.md#settings.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, NewType, get_args

from node.paths import data_home
from node.sandbox.drivers import AUTO, DRIVERS
from protocol.values.errors import InvalidRequest

Credits = NewType("Credits", str)
"""An amount of credits, as people write it: "0.50". protocol/values/units.py converts it."""
Multiaddress = NewType("Multiaddress", str)
"""Such as /ip4/192.0.2.1/tcp/4788."""
GpuUuid = NewType("GpuUuid", str)
"""GPU-… or, for a part of one, MIG-…"""
Region = Literal[
    "north-america",
    "latin-america",
    "europe",
    "africa",
    "middle-east",
    "south-asia",
    "east-asia",
    "southeast-asia",
    "oceania",
    "central-asia",
]
REGIONS: Final[tuple[str, ...]] = get_args(Region)
"""In the order of their numbers on the wire, which begin with 1; 0 is no region."""

SOCKET_PATH_MAX: Final = 107
"""Bytes; unix(7)."""


class ConfigError(InvalidRequest):
    """The configuration says what cannot be; the command line exits with 78 (EX_CONFIG)."""

    code = "config"


@dataclass(frozen=True, slots=True)
class About:
    """What a setting means, the least that it may be if it is a number, and what a text may be."""

    text: str
    least: int = 0
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """[network]: how this node meets others."""

    name: Annotated[str, About("the network to belong to: nodes of others are not met")] = "mutirao"
    listen: Annotated[tuple[Multiaddress, ...], About("the addresses to listen on")] = (
        Multiaddress("/ip4/0.0.0.0/tcp/4788"),
    )
    bootstrap: Annotated[
        tuple[Multiaddress, ...], About("the addresses of peers to begin with, with /p2p/PEER")
    ] = ()
    announce: Annotated[
        tuple[Multiaddress, ...],
        About("the addresses to tell others, where they differ from those listened on"),
    ] = ()
    connections_per_source: Annotated[
        int,
        About("connections that strangers of one address may hold: more where nodes share it", 1),
    ] = 16


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """[provider]: what this machine lends to others."""

    enabled: Annotated[bool, About("whether to run jobs of others")] = True
    cpus: Annotated[int | None, About("processors to lend; all if not set", least=1)] = None
    memory_mib: Annotated[
        int | None, About("memory to lend; 80 % of what is usable if not set", least=64)
    ] = None
    disk_mib: Annotated[
        int | None,
        About("disk to lend; half of what is free, at most 100 GiB, if not set", least=64),
    ] = None
    gpus: Annotated[
        Literal["all"] | tuple[GpuUuid, ...], About('GPUs to lend: "all" or their uuids')
    ] = "all"
    region: Annotated[
        Literal[""] | Region, About("roughly where this machine is: some jobs must stay there")
    ] = ""
    sandbox: Annotated[
        str,
        About(
            f"what holds the jobs: {', '.join(DRIVERS)}, or {AUTO}, the best here",
            choices=(AUTO, *DRIVERS),
        ),
    ] = AUTO
    jobs_max: Annotated[int, About("jobs that may run here at one time", least=1)] = 8
    pause_s: Annotated[
        int,
        About("seconds that a job whose requester is away waits, paused, before it ends; 0: none"),
    ] = 600
    pause_memory_mib: Annotated[
        int | None, About("memory that paused jobs may hold; half of what is lent if not set")
    ] = None


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """[price]: the least that this machine is lent for."""

    cpu_hour: Annotated[Credits, About("credits for one processor for an hour")] = Credits("0.01")
    memory_gib_hour: Annotated[Credits, About("credits for one GiB of memory for an hour")] = (
        Credits("0.002")
    )
    gpu_hour: Annotated[Credits, About("credits for one GPU for an hour")] = Credits("0.50")


@dataclass(frozen=True, slots=True)
class RequesterSettings:
    """[requester]: what holds for our own jobs where they do not say it themselves."""

    price_max_hour: Annotated[Credits, About("credits that an hour of a job may cost")] = Credits(
        "1.00"
    )
    retries: Annotated[int, About("further executions if one fails through no fault of ours")] = 2


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """[storage]: what this node keeps on the disk for itself."""

    blobs_mib: Annotated[int, About("disk for inputs, outputs and images", least=64)] = 20_480
    unpacked_mib: Annotated[int, About("disk for images of others' jobs, unpacked", least=64)] = (
        20_480
    )


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be configured. `socket` becomes api.sock in `data_dir` if not set."""

    data_dir: Annotated[Path, About("the folder of this node: key, database, blobs")] = field(
        default_factory=data_home
    )
    socket: Annotated[Path, About("the local API; api.sock in data_dir if not set")] = field(
        default_factory=Path
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], About("the least that is logged")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "logfmt", "json"], About("of the log; auto: for people on a terminal")
    ] = "auto"
    network: NetworkSettings = field(default_factory=NetworkSettings)
    provider: ProviderSettings = field(default_factory=ProviderSettings)
    price: PriceSettings = field(default_factory=PriceSettings)
    requester: RequesterSettings = field(default_factory=RequesterSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)

    def __post_init__(self) -> None:
        """Put the socket into the data folder unless it was set; ConfigError if it is too long."""
        if self.socket == Path():
            object.__setattr__(self, "socket", self.data_dir / "api.sock")
        if len(os.fsencode(self.socket)) > SOCKET_PATH_MAX:
            raise ConfigError(
                f"socket: {self.socket} is longer than the {SOCKET_PATH_MAX} bytes that the system"
                " allows: set socket to a shorter path"
            )
