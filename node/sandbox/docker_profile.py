"""The Docker driver's policy as the engine's arguments: a pure function from spec to arguments.

Images in the engine have no config (docker_images.py); what the engine or the node's own Docker
configuration would add (a runtime, proxies) is overridden here.

Spec: specs/sandbox.md#docker-driver.
"""

from dataclasses import dataclass
from typing import Any, Final

from docker.types import DeviceRequest, HostConfig, LogConfig, Mount, Ulimit

from node.sandbox import seccomp
from node.sandbox.bwrap import LEAKS, Extra
from node.sandbox.docker_engine import API_VERSION, RUNC
from node.sandbox.docker_gpus import runtime_for
from node.sandbox.driver import ContainerSpec
from node.sandbox.policy import (
    OPEN_FILES,
    environment_of,
    is_amd,
    largest_file_mib,
    limits_of,
    working_dir_of,
)
from node.sandbox.runner.priority import DEAD_FIRST

HOST_NAME: Final = "job"
OWNER_LABEL: Final = "mutirao.owner"
ORDINARY_SHARES: Final = 1024
ORDINARY_IO_WEIGHT: Final = 500
"""What a container has that nobody weighs."""
CPU_PERIOD_US: Final = 100_000
FOLDER_FILES: Final = 65_536
INIT_PROCESSES: Final = 1
"""Docker's init counts as the job's: it is added to its limit."""
MASKED: Final = (
    *LEAKS, "/proc/acpi", "/proc/asound", "/proc/latency_stats", "/proc/scsi", "/proc/timer_stats",
    "/sys/devices/virtual/dmi", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
"""The hidden paths of /proc and /sys: the engine's own list, which this replaces, and more."""


@dataclass(frozen=True, slots=True)
class Place:
    """The image, mounts and identities of a container on this machine."""

    owner: str
    """The node that the container belongs to."""
    image: str
    """The engine's id of the image."""
    disk: tuple[Mount, ...]
    """What is mounted at /out, /tmp and /scratch; in memory, at /out alone."""
    user: tuple[int, int]
    """User and group id inside: the policy's, but the user is our own if we are not root."""
    gpus: DeviceRequest | None = None
    """How the engine finds the job's GPUs."""
    runtime: str = RUNC
    """The engine's runtime, and how many processes of its own count as the job's."""
    own_processes: int = INIT_PROCESSES
    network: str = ""
    """The container whose network namespace it shares; empty: it has one of its own."""


def arguments_of(spec: ContainerSpec, place: Place, extra: Extra) -> dict[str, Any]:
    """Return the keyword arguments of docker-py's `APIClient.create_container`."""
    return {
        "image": place.image,
        "name": spec.name,
        "entrypoint": [],
        "command": list(spec.workload.command),
        "environment": environment_of(spec) | dict(extra.env) | _no_gpu(spec),
        "use_config_proxy": False,  # The node's proxies may include passwords.
        "working_dir": working_dir_of(spec),
        "user": f"{place.user[0]}:{place.user[1]}",
        "hostname": None if place.network else HOST_NAME,  # With a namespace it shares the name.
        "labels": {OWNER_LABEL: place.owner},
        "network_disabled": not place.network,
        "healthcheck": {"test": ["NONE"]},
        "stop_signal": "SIGKILL",
        "tty": False,
        "stdin_open": False,
        "host_config": _host_config(spec, place, extra),
    }


def _host_config(spec: ContainerSpec, place: Place, extra: Extra) -> dict[str, Any]:
    """Return the engine's HostConfig: isolation and limits."""
    limits = limits_of(spec)
    memory = f"{limits.memory_mib}m"
    config: dict[str, Any] = HostConfig(
        version=API_VERSION,
        # Besides the disabled network: with the loopback, and 100 ms faster than "none" alone.
        network_mode=f"container:{place.network}" if place.network else "none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true", f"seccomp={seccomp.profile()}"],
        read_only=True,
        tmpfs=_memory_folders(spec, place),
        ipc_mode="private",
        shm_size=f"{limits.shared_mib}m",
        pids_limit=limits.processes + place.own_processes,
        mem_limit=memory,
        memswap_limit=memory,
        cpu_period=CPU_PERIOD_US,
        cpu_quota=limits.cpus * CPU_PERIOD_US,
        cpu_shares=max(2, ORDINARY_SHARES * spec.cpu_weight // 100),
        blkio_weight=max(10, ORDINARY_IO_WEIGHT * spec.cpu_weight // 100),
        ulimits=_ulimits(spec),
        init=True,  # Without it a traced process can outlive its container.
        oom_score_adj=int(DEAD_FIRST),
        cgroupns="private",
        log_config=LogConfig(type="none", config={}),  # The runner attaches and caps.
        mounts=_mounts(spec, place, extra),
        devices=[f"{device}:{device}:rw" for device in extra.devices],
        group_add=[str(group) for group in extra.groups],
        device_requests=[place.gpus] if place.gpus else [],
        runtime=runtime_for(place.gpus) if place.runtime == RUNC else place.runtime,
        restart_policy={"Name": "no"},
        auto_remove=False,
    )
    return config | {"MaskedPaths": list(MASKED)}


def _memory_folders(spec: ContainerSpec, place: Place) -> dict[str, str]:
    """Return the folders in memory. `uid=` holds where `mode=` is lost: runc takes the image's."""
    limits = limits_of(spec)
    if not limits.disk_in_memory:
        return {}
    user, group = place.user
    options = f"rw,exec,nosuid,nodev,nr_inodes={FOLDER_FILES},mode=0700,uid={user},gid={group}"
    options += f",size={limits.temp_mib}m"
    return {"/tmp": options, "/scratch": options}  # noqa: S108 - inside.


def _ulimits(spec: ContainerSpec) -> list[Ulimit]:
    """Return the resource limits."""
    values = {
        "nofile": OPEN_FILES,
        "fsize": largest_file_mib(limits_of(spec)) << 20,
        "core": 0,
        "memlock": 64 << 10,
        "msgqueue": 0,
    }
    return [Ulimit(name=name, soft=value, hard=value) for name, value in values.items()]


def _mounts(spec: ContainerSpec, place: Place, extra: Extra) -> list[Mount]:
    """Return the job's disk, its inputs, and what the self-test adds, all private to it."""
    readable = [(source, f"/in/{path}") for path, source in spec.inputs] + list(extra.binds)
    return list(place.disk) + [
        Mount(target, str(source), type="bind", read_only=True, propagation="rprivate")
        for source, target in readable
    ]


def _no_gpu(spec: ContainerSpec) -> dict[str, str]:
    """Return the variable that disables the vendor's hooks, should the engine run them."""
    return {} if any(not is_amd(uuid) for uuid in spec.gpus) else {"NVIDIA_VISIBLE_DEVICES": "void"}
