"""The limits of a job: pure functions of its spec, the same for every driver.

Nothing here reads the machine. A container that no sandbox may run is refused here, before any of
it reaches a program's arguments.

Spec: specs/sandbox.md#policy.
"""

import json
from dataclasses import dataclass
from typing import Final

from node.hardware.gpu import AMD_PREFIX
from node.sandbox.driver import NAME_PREFIX, ContainerSpec
from node.sandbox.runner import egress, restore
from protocol.values.errors import SandboxUnavailable
from protocol.wire.job import Workload, is_place, is_safe_path

UID_INSIDE: Final = 65_532
"""A job's user id in its container: the one that distroless images call `nonroot`."""
MOUNT_POINTS: Final = ("proc", "dev", "tmp", "in", "out", "scratch")
"""Folders that the policy mounts over; an unpacked image must have them."""
OPEN_FILES: Final = 1024
FILE_MIB_MAX: Final = 2**20
DEFAULT_ENV: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",  # noqa: S108 - inside the container.
    "TMPDIR": "/tmp",  # noqa: S108
    "LANG": "C.UTF-8",
}
RUNTIME_PREFIXES: Final = ("LD_", "NVIDIA_")
"""Variables by which images have attacked the GPU runtime's hooks, as in CVE-2025-23266."""
Pairs = list[tuple[str, str]]
"""The fields of a record in a run folder."""


@dataclass(frozen=True, slots=True)
class ContainerLimits:
    """The numbers that a driver enforces."""

    cpus: int
    memory_mib: int
    processes: int
    disk_mib: int
    """Size of /out, /tmp and /scratch together, if they are on disk. The log has the rest."""
    disk_in_memory: bool
    """Whether they are in memory instead, and count as the job's memory."""
    temp_mib: int
    """Size of /tmp and of /scratch in memory."""
    shared_mib: int
    """Size of /dev/shm. It is memory, and counts as the job's."""
    output_mib: int
    """The most that is collected from /out; its size in memory."""
    log_mib: int
    timeout_ms: int
    budget_ms: int
    """0: no budget."""
    pause_ms: int
    """How long a container that has used its budget stays paused."""


def limits_of(spec: ContainerSpec) -> ContainerLimits:
    """Return what the container may use."""
    workload = spec.workload
    resources = workload.resources
    return ContainerLimits(
        cpus=resources.cpus,
        memory_mib=resources.memory_mib,
        processes=workload.processes,
        disk_mib=max(1, resources.disk_mib - workload.log_mib),
        disk_in_memory=workload.disk_in_memory,
        temp_mib=min(resources.disk_mib, resources.memory_mib),
        shared_mib=resources.shm_mib or max(1, resources.memory_mib // 2),
        output_mib=workload.output_mib,
        log_mib=workload.log_mib,
        timeout_ms=workload.timeout_ms,
        budget_ms=spec.budget_ms,
        pause_ms=spec.pause_ms,
    )


def largest_file_mib(limits: ContainerLimits) -> int:
    """Return how large a file may be: as large as the largest place for one."""
    disk_mib = limits.output_mib if limits.disk_in_memory else limits.disk_mib
    return max(disk_mib, limits.memory_mib)


def launch_record(spec: ContainerSpec, driver: str) -> Pairs:
    """Return the fields of the launch record that all runners read."""
    limits = limits_of(spec)
    numbers = {
        "timeout_ms": limits.timeout_ms,
        "pause_ms": limits.pause_ms,
        "log_mib": limits.log_mib,
        "output_mib": limits.output_mib,
        "memory_mib": limits.memory_mib,
        "disk_mib": limits.disk_mib,
        "cpu_weight": spec.cpu_weight,
    }
    pairs = [("driver", driver), ("name", spec.name)]
    pairs += [(key, str(value)) for key, value in numbers.items()]
    pairs += [("restored", restore.line_of(each.path, str(each.source), each.executable))
              for each in spec.restored]  # fmt: skip
    pairs += [("egress", "1")] if spec.workload.egress else []
    return pairs + [("command", text) for text in spec.workload.command]


def environment_of(spec: ContainerSpec) -> dict[str, str]:
    """Return the container's variables: ours, then the image's, then the job's.

    None of RUNTIME_PREFIXES is taken from the image, and with GPUs none from the job.
    """
    own = {variable.name: variable.value for variable in spec.workload.env}
    return (
        DEFAULT_ENV
        | _thread_count(spec.workload)
        | _without_runtime(dict(spec.env))
        | _gpu_indices(spec)
        | _proxy_variables(spec.workload)
        | (_without_runtime(own) if spec.gpus else own)
        | _gpu_names(spec)
        | _checkpoint_variables(spec.workload)
        | _members_of(spec.workload)
    )


def _thread_count(workload: Workload) -> dict[str, str]:
    """Return the variable that OpenMP, BLAS and PyTorch read: they would count the machine's CPUs.

    With more threads than CPUs, the kernel stops all of them for a part of each period.
    """
    return {"OMP_NUM_THREADS": str(workload.resources.cpus)}


def _gpu_indices(spec: ContainerSpec) -> dict[str, str]:
    """Return the variables that select all GPUs of the container; the job may select fewer."""
    indices = ",".join(str(index) for index in range(len(spec.gpus)))
    if not spec.gpus:
        return {}
    runtime = "HIP" if all(map(is_amd, spec.gpus)) else "CUDA"
    return {f"{runtime}_VISIBLE_DEVICES": indices}


def _gpu_names(spec: ContainerSpec) -> dict[str, str]:
    if not spec.gpus or all(map(is_amd, spec.gpus)):
        return {}
    return {"NVIDIA_VISIBLE_DEVICES": ",".join(spec.gpus)}


def is_amd(uuid: str) -> bool:
    """Return whether a GPU is AMD's."""
    return uuid.startswith(AMD_PREFIX)


def _members_of(workload: Workload) -> dict[str, str]:
    """Return the variable that tells a member of a gang who the others are, by rank."""
    if not workload.members:
        return {}
    known = [{"peer": one.peer, "addresses": one.addresses} for one in workload.members]
    return {"MUTIRAO_MEMBERS": json.dumps(known)}


def _proxy_variables(workload: Workload) -> dict[str, str]:
    """Return what tells programs where the node's proxy is, if the job may reach the network."""
    if not workload.egress:
        return {}
    place = "http://{}:{}".format(*egress.ADDRESS)
    names = {"http_proxy": place, "https_proxy": place, "no_proxy": "localhost,127.0.0.1,::1"}
    return names | {name.upper(): value for name, value in names.items()}


def _checkpoint_variables(workload: Workload) -> dict[str, str]:
    """Return what tells a job where its checkpoint belongs, and whether it continues from one."""
    if not workload.checkpoint:
        return {}
    resume = {"MUTIRAO_RESUME": "1"} if workload.resume else {}
    return {"MUTIRAO_CHECKPOINT": f"/out/{workload.checkpoint}", **resume}


def _without_runtime(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(RUNTIME_PREFIXES)}


def working_dir_of(spec: ContainerSpec) -> str:
    """Return the folder that the command starts in."""
    return spec.workload.workdir or spec.working_dir or "/tmp"  # noqa: S108 - inside the container.


def require_runnable(spec: ContainerSpec) -> None:
    """Refuse values that the programs which start containers could misread.

    SandboxUnavailable says what is wrong. A NUL ends a program's argument, "=" ends a variable's
    name, and an input's path could lead out of /in.
    """
    command = spec.workload.command
    variables = environment_of(spec)
    texts = [spec.name, *command, *variables.keys(), *variables.values(), working_dir_of(spec)]
    if not command or not command[0]:
        raise SandboxUnavailable("the job has no command; give it after --")
    if not spec.image:
        raise SandboxUnavailable("the container has no image")
    if any("\0" in text for text in texts):
        raise SandboxUnavailable("the command or its environment holds a NUL character")
    if any(not name or "=" in name for name in variables):
        raise SandboxUnavailable("an environment variable's name is empty or holds '='")
    if not spec.name.startswith(NAME_PREFIX) or not spec.name.isascii():
        raise SandboxUnavailable(f"a container's name begins with {NAME_PREFIX}")
    if "/" in spec.name:
        raise SandboxUnavailable("a container's name must not be a path")
    _require_safe_paths(spec)


def _require_safe_paths(spec: ContainerSpec) -> None:
    """Refuse paths that lead out of their folder, and relative working folders."""
    paths = [path for path, _ in spec.inputs]
    restored = [each.path for each in spec.restored]
    if any(not is_safe_path(path) for path in paths) or len(set(paths)) < len(paths):
        raise SandboxUnavailable("an input's path is unsafe or used twice")
    if any(not is_safe_path(path) for path in restored) or len(set(restored)) < len(restored):
        raise SandboxUnavailable("a file of the checkpoint has an unsafe path, or one used twice")
    if spec.workload.workdir and not is_place(spec.workload.workdir):
        raise SandboxUnavailable("the job's working folder is no absolute path, or an unsafe one")
    if spec.working_dir and not spec.working_dir.startswith("/"):
        raise SandboxUnavailable(f"the image's working folder {spec.working_dir!r} is relative")
