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
from protocol.values.limits import AUDIT_PERCENT, LEASE_ABSENCE_MS, NOTICE_MS, NOTICE_MS_MAX

Credits = NewType("Credits", str)
"""An amount of credits as text: "0.50". protocol/values/units.py converts it."""
Multiaddress = NewType("Multiaddress", str)
"""Such as /ip4/192.0.2.1/tcp/4788."""
GpuUuid = NewType("GpuUuid", str)
"""GPU-…, or MIG-… for a part of a GPU."""
Hours = NewType("Hours", str)
"""Such as "mon-fri 20:00-07:00"."""
PeerName = NewType("PeerName", str)
"""The id of a peer: 12D3KooW…."""
ImageDigest = NewType("ImageDigest", str)
"""64 hex digits."""
ClassPrice = NewType("ClassPrice", str)
"""A class of GPUs and an amount of credits: h100-80gb=2.00."""
IpNetwork = NewType("IpNetwork", str)
"""Such as 192.0.2.0/24."""
RegistryName = NewType("RegistryName", str)
"""A host, perhaps with a port."""
NetworkName = NewType("NetworkName", str)
"""Such as pypi.org or *.example.org, or a set of names."""
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

PUBLIC_REGISTRIES: Final = (
    "docker.io", "ghcr.io", "quay.io", "gcr.io", "registry.k8s.io", "mcr.microsoft.com",
    "public.ecr.aws", "nvcr.io", "registry.gitlab.com",
)  # fmt: skip
SOCKET_PATH_MAX: Final = 107
"""Bytes; unix(7)."""


class ConfigError(InvalidRequest):
    """The configuration is invalid; the command line exits with 78 (EX_CONFIG)."""

    code = "config"


@dataclass(frozen=True, slots=True)
class About:
    """What a setting means, the bounds of a number, and what a text may be."""

    text: str
    least: int = 0
    most: int | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """[network]: how this node connects to others."""

    name: Annotated[str, About("the name of the network: nodes connect within it only")] = "mutirao"
    listen: Annotated[tuple[Multiaddress, ...], About("the addresses to listen on")] = (
        Multiaddress("/ip4/0.0.0.0/tcp/4788"),
    )
    bootstrap: Annotated[
        tuple[Multiaddress, ...], About("the addresses of bootstrap peers, with /p2p/PEER")
    ] = ()
    announce: Annotated[
        tuple[Multiaddress, ...],
        About("the addresses to announce, if they differ from the listening ones"),
    ] = ()
    connections_per_source: Annotated[
        int,
        About("connections of strangers from one address; raise it if nodes share one", 1),
    ] = 16
    upload_mib_s: Annotated[
        int, About("MiB per second of blobs that others fetch here, in total; 0: no limit")
    ] = 0
    download_mib_s: Annotated[
        int, About("MiB per second of blobs that this node fetches, in total; 0: no limit")
    ] = 0


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """[provider]: what this machine lends to others."""

    enabled: Annotated[bool, About("whether to run jobs of others")] = True
    cpus: Annotated[int | None, About("processors to lend; all if not set", least=1)] = None
    memory_mib: Annotated[
        int | None, About("memory to lend; 80 % of the usable memory if not set", least=64)
    ] = None
    disk_mib: Annotated[
        int | None,
        About("disk to lend; half of the free disk, at most 100 GiB, if not set", least=64),
    ] = None
    gpus: Annotated[
        Literal["all"] | tuple[GpuUuid, ...], About('GPUs to lend: "all" or their uuids')
    ] = "all"
    region: Annotated[
        Literal[""] | Region, About("this machine's region: some jobs require one")
    ] = ""
    sandbox: Annotated[
        str,
        About(
            f"what holds the jobs: {', '.join(DRIVERS)}, or {AUTO}, the best here",
            choices=(AUTO, *DRIVERS),
        ),
    ] = AUTO
    jobs_max: Annotated[int, About("jobs that may run at a time", least=1)] = 8
    pause_s: Annotated[
        int,
        About("seconds that a job stays paused while its requester is away; 0: none"),
    ] = LEASE_ABSENCE_MS // 1000
    notice_s: Annotated[
        int,
        About(
            "seconds that a job with a checkpoint has to save its state when this node stops;"
            " 0: none",
            most=NOTICE_MS_MAX // 1000,
        ),
    ] = NOTICE_MS // 1000
    audit_percent: Annotated[
        int,
        About(
            "how many of the auctions in which this node bids it compares with another bidder, in"
            " percent: a requester may show them different sets of bids",
            most=100,
        ),
    ] = AUDIT_PERCENT
    pause_memory_mib: Annotated[
        int | None, About("memory that paused jobs may hold; half of the lent memory if not set")
    ] = None
    cpu_weight: Annotated[
        int,
        About(
            "what a job gets of a processor beside a program of the owner, in percent of that one;"
            " of the disk accordingly",
            least=1,
            most=100,
        ),
    ] = 10
    allow_peers: Annotated[
        tuple[PeerName, ...], About("the peers whose jobs are run; all if none is named")
    ] = ()
    deny_peers: Annotated[tuple[PeerName, ...], About("the peers whose jobs are not run")] = ()
    allow_images: Annotated[
        tuple[ImageDigest, ...],
        About("the images that are run, by digest; all if none is named"),
    ] = ()
    deny_images: Annotated[
        tuple[ImageDigest, ...], About("the images that are not run, by digest")
    ] = ()
    registries: Annotated[
        tuple[RegistryName, ...],
        About("registries from which this node pulls jobs' public images itself, as ghcr.io"),
    ] = ()
    hours: Annotated[
        tuple[Hours, ...],
        About('when to take new jobs, such as "mon-fri 20:00-07:00, sat-sun"; always if none'),
    ] = ()
    idle_s: Annotated[
        int,
        About("seconds for which nobody may have used this machine before it takes jobs; 0: any"),
    ] = 0
    gpu_celsius_max: Annotated[
        int | None, About("the highest temperature of a GPU at which new jobs are taken")
    ] = None
    cpu_celsius_max: Annotated[
        int | None, About("the highest temperature of the processor at which new jobs are taken")
    ] = None
    gpu_watts_max: Annotated[
        int | None, About("the highest power of a GPU at which new jobs are taken")
    ] = None
    cpu_watts_max: Annotated[
        int | None, About("the highest power of the processor at which new jobs are taken")
    ] = None
    when_closed: Annotated[
        Literal["finish", "reclaim"],
        About(
            "what becomes of the jobs that run when the hours are over, the owner is back, or the"
            " machine is too hot: they finish, or end after their notice"
        ),
    ] = "finish"
    egress: Annotated[
        Literal["none", "listed", "any"],
        About("which names of the network jobs may reach, if they ask for them"),
    ] = "none"
    egress_names: Annotated[
        tuple[NetworkName, ...],
        About("what listed stands for: names, *.example.org, or the sets pypi and huggingface"),
    ] = (NetworkName("pypi"), NetworkName("huggingface"))
    egress_ports: Annotated[tuple[int, ...], About("the ports that jobs may reach")] = (80, 443)
    egress_networks: Annotated[
        tuple[IpNetwork, ...],
        About("networks that jobs may reach although they are not public, such as 10.1.2.0/24"),
    ] = ()
    egress_mib_s: Annotated[
        int, About("MiB a second that all jobs together send and receive at most", least=1)
    ] = 32
    egress_mib: Annotated[int, About("MiB that one job sends and receives at most", least=1)] = (
        10_240
    )


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """[price]: the list prices of this machine, which others see: the most that it asks."""

    cpu_hour: Annotated[Credits, About("credits for one processor for an hour")] = Credits("0.01")
    memory_gib_hour: Annotated[Credits, About("credits for one GiB of memory for an hour")] = (
        Credits("0.002")
    )
    gpu_hour: Annotated[Credits, About("credits for one GPU for an hour")] = Credits("0.50")
    gpu_floor_hour: Annotated[
        tuple[ClassPrice, ...],
        About(
            "the least that this node asks for one GPU of a class for an hour, such as"
            ' "h100-80gb=2.00"; at most gpu_hour; others do not see it'
        ),
    ] = ()
    floor_percent: Annotated[
        int | None,
        About(
            "the least that this node asks, in percent of these prices, which others do not see;"
            " drawn from the node's key, 50 to 90, if not set",
            most=100,
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class RequesterSettings:
    """[requester]: defaults for our own jobs."""

    price_max_hour: Annotated[
        Credits | None,
        About(
            "the most credits that an hour of a job may cost; if not set, each job takes the lowest"
            " list price of the nodes that can run it"
        ),
    ] = None
    cap_percent: Annotated[
        int,
        About(
            "without a price_max_hour: how far a job may raise its highest price when nobody bids,"
            " in percent of the median list price",
            least=100,
            most=10_000,
        ),
    ] = 200
    retries: Annotated[int, About("further attempts if a provider fails")] = 2
    registries: Annotated[
        tuple[RegistryName, ...],
        About("public registries: providers learn where there an image was pulled anonymously"),
    ] = tuple(map(RegistryName, PUBLIC_REGISTRIES))


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """[storage]: how much disk this node uses for itself."""

    blobs_mib: Annotated[int, About("disk for inputs, outputs and images", least=64)] = 20_480
    unpacked_mib: Annotated[
        int, About("disk for the unpacked images and packs of others' jobs", least=64)
    ] = 20_480


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
        Literal["debug", "info", "warning", "error"], About("the lowest level that is logged")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "logfmt", "json"],
        About("format of the log; auto: for people on a terminal"),
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
