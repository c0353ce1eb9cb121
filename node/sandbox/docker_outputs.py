"""The disk of a container of the engine: folders of its run folder, or an /out in memory.

A job may ask for the latter; the kernel enforces its size. A node that is root mounts it and binds
it into the container. Any other node uses a volume in memory of the engine. The volume lasts as
long as a container uses it, and only processes in containers see it. So a second container, the
holder, uses it too. The holder has our user and group: the runner can enter its root and open /out
before the job begins; then its work is done.

A holder also has the network namespace of a job that may reach the network: the runner listens in
it before the job begins.

Spec: specs/sandbox.md#docker-driver.
"""

import os
import subprocess
from pathlib import Path
from typing import Any, Final

import docker.errors
import requests
from docker.types import HostConfig, LogConfig, Mount

from node.sandbox.bwrap import Extra
from node.sandbox.docker_engine import API_VERSION, one_line
from node.sandbox.docker_profile import HOST_NAME, OWNER_LABEL
from node.sandbox.policy import UID_INSIDE
from node.sandbox.runner import job_disk
from protocol.values.errors import SandboxUnavailable

OUT: Final = "/out"
FILES: Final = 65_536
HOLDER_SUFFIX: Final = "-out"
"""The suffix to a container's name that names its volume and its holder."""
HOLDER_SECONDS: Final = 150
"""The holder ends by itself after this time, within which a runner must have started the job."""
MOUNT_SECONDS: Final = 30


def mount(place: Path, size_mib: int) -> Mount:
    """Mount a file system at a folder, as root; return its mount into the container."""
    place.mkdir(mode=0o700, exist_ok=True)
    if not os.path.ismount(place):
        options = _options(size_mib, UID_INSIDE)
        _run("mount", "-t", "tmpfs", "-o", options, "mutirao-out", str(place))
    return Mount(OUT, str(place.absolute()), type="bind", propagation="rprivate")


def make_disk(folder: Path, kind: str) -> tuple[tuple[Mount, ...], tuple[str, str]]:
    """Make the disk of a run folder; return its mounts, and the record field to find /out by."""
    place = (folder / job_disk.DISK).absolute()
    try:
        job_disk.make(str(folder), kind, UID_INSIDE if os.geteuid() == 0 else None)
    except OSError as fault:
        raise SandboxUnavailable(f"the job's disk cannot be made: {fault.strerror}") from fault
    mounts = [Mount(f"/{part}", str(place / part), type="bind", propagation="rprivate")
              for part in job_disk.PARTS]  # fmt: skip
    return tuple(mounts), ("out", str(place / "out"))


def unmount(place: Path) -> None:
    """Undo `mount`."""
    if os.path.ismount(place):
        _run("umount", "-l", str(place))


def make_volume(api: Any, name: str, owner: str, size_mib: int) -> Mount:
    """Let the engine make a volume for a container; return its mount into the container."""
    volume = name + HOLDER_SUFFIX
    options = {"type": "tmpfs", "device": "tmpfs", "o": _options(size_mib, os.getuid())}
    api.create_volume(volume, "local", options, {OWNER_LABEL: owner})
    return Mount(OUT, volume, type="volume", no_copy=True)


def make_holder(api: Any, name: str, owner: str, root: tuple[str, Extra], *more: Mount) -> str:
    """Create the holder of a container; return its name.

    `root` is an empty image, and this machine's own programs.
    """
    image, extra = root
    holder = name + HOLDER_SUFFIX
    user = f"{os.getuid() or UID_INSIDE}:{os.getgid() or UID_INSIDE}"
    binds = [Mount(target, str(source), type="bind", read_only=True, propagation="rprivate")
             for source, target in extra.binds]  # fmt: skip
    config = HostConfig(
        version=API_VERSION,
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        read_only=True,
        pids_limit=4,
        mem_limit="16m",
        log_config=LogConfig(type="none", config={}),
        mounts=[*binds, *more],
        runtime="runc",
    )
    try:
        api.create_container(
            image, ["/bin/sleep", str(HOLDER_SECONDS)], name=holder, host_config=config,
            user=user, network_disabled=True, use_config_proxy=False, hostname=HOST_NAME,
            labels={OWNER_LABEL: owner}, stop_signal="SIGKILL",
        )  # fmt: skip
    except docker.errors.APIError as fault:
        if fault.status_code != requests.codes.conflict:  # An earlier daemon created it.
            raise
    return holder


def remove_volume(api: Any, name: str) -> None:
    """Remove a container's volume, if it has one; its container and holder are gone."""
    try:
        api.remove_volume(name + HOLDER_SUFFIX)
    except docker.errors.NotFound:
        return


def _options(size_mib: int, user: int) -> str:
    return f"nosuid,nodev,size={size_mib}m,nr_inodes={FILES},mode=0700,uid={user},gid={UID_INSIDE}"


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              timeout=MOUNT_SECONDS)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SandboxUnavailable(f"{command[0]} of {OUT} took too long") from None
    if done.returncode != 0:
        raise SandboxUnavailable(f"cannot {command[0]} {OUT}: {one_line(done.stderr)}")
