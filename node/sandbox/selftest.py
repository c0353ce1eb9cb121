"""A driver's self-test: containers that attack the sandbox, so that a node offers what it proved.

The containers run this machine's own Python from its own /usr, bound read-only into an empty
root, so that the test needs no image. It takes about a second and runs at the daemon's start.

Spec: specs/sandbox.md#self-test.
"""

import secrets
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from node.sandbox import runfolder
from node.sandbox.bwrap import Extra
from node.sandbox.driver import (
    NAME_PREFIX,
    ContainerSpec,
    Exit,
    Probe,
    log_path,
    outputs_path,
)
from node.sandbox.policy import MOUNT_POINTS
from node.sandbox.runner import egress
from node.sandbox.runner_driver import RunnerDriver
from protocol.values.egress import ANY
from protocol.values.errors import SandboxUnavailable
from protocol.values.ids import Digest
from protocol.wire.job import Resources, Workload

CHECK_SECONDS: Final = 60.0
LIMIT_MIB: Final = 64
DISK_MIB: Final = 8
LIMIT_PROCESSES: Final = 16
TIMEOUT_MS: Final = 700
CPU_SLACK: Final = 1.5

WALLS: Final = """
import os, socket, sys
def refused(act, *words):
    try:
        act(*words)
    except OSError:
        return True
    return False
assert os.getuid() == int(sys.argv[2]), "the user id"
assert refused(socket.socket, 40, socket.SOCK_STREAM), "a socket to the hypervisor"
assert refused(os.mkdir, "/home-of-a-job"), "writing to the image"
assert refused(os.mknod, "/tmp/device", 0o20666, os.makedev(1, 1)), "making a device"
def change_its_program():
    os.chmod("/proc/1/exe", os.stat("/proc/1/exe").st_mode & 0o7777)
assert refused(change_its_program), "changing the first process's program"
assert sys.argv[1] == "open" or refused(open, "/proc/1/mem", "r+b"), "the first process's memory"
assert len(os.listdir("/sys/class/net")) == 1 if os.path.exists("/sys/class/net") else True
assert [x for x in os.listdir("/proc") if x.isdigit()].__len__() < 8, "seeing others' processes"
open("/out/proof", "w").write("walls")
"""
MEMORY: Final = f"""
import os
held = []
try:
    file = os.memfd_create("hog")
except OSError:
    file = None
for _ in range({LIMIT_MIB} * 4):
    if file is None:
        held.append(bytearray(os.urandom(1) * 2**20))
    else:
        os.write(file, b"x" * 2**20)
"""
PROCESSES: Final = f"""
import os, time
count = 1
try:
    while count < {LIMIT_PROCESSES} * 4:
        if os.fork() == 0:
            time.sleep(30)
        count += 1
except OSError:
    pass
os._exit(0 if count <= {LIMIT_PROCESSES} else 9)
"""
CPU: Final = """
import os, time
end = time.monotonic() + 0.5
os.fork()
while time.monotonic() < end:
    pass
"""
DISK: Final = f"""
import os
written = 0
try:
    with open("/scratch/hog", "wb", buffering=0) as file:
        while written < {LIMIT_MIB}:
            written += file.write(b"x" * 2**20) >> 20
except OSError:
    pass
os._exit(0 if written <= {DISK_MIB} else 9)
"""
TIME: Final = """
import os, signal, time
for number in range(1, 65):
    if number not in (9, 19, 32, 33):
        signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
time.sleep(60)
"""
EGRESS: Final = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10):
    pass
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """One attack and its required outcome."""

    limit: str
    code: str
    timeout_ms: int
    held: Callable[[Exit], bool]


TRIALS: Final = (
    Trial("walls", WALLS, 20_000, lambda end: end.exit_code == 0),
    Trial("memory", MEMORY, 20_000, lambda end: end.exit_code != 0 and end.reason != "timeout"),
    Trial("pids", PROCESSES, 20_000, lambda end: end.exit_code == 0),
    Trial("cpu", CPU, 20_000, lambda end: (end.cpu_ms or 0) <= CPU_SLACK * end.usage_ms),
    Trial("disk", DISK, 20_000, lambda end: end.exit_code == 0),
    Trial("time", TIME, TIMEOUT_MS, lambda end: end.reason == "timeout"),
)
PROXY: Final = Trial("egress", EGRESS, 20_000, lambda end: end.exit_code == 0)
"""Whether a job reaches the proxy; only for owners who allow egress."""
Start = Callable[[ContainerSpec, Path], Awaitable[None]]


async def check(driver: RunnerDriver) -> Probe:
    """Run all trials through a driver."""
    scratch = driver.runs / f"selftest-{secrets.token_hex(4)}"
    try:
        await trio.to_thread.run_sync(lambda: scratch.mkdir(mode=0o700, parents=True))
        rootfs, extra = host_rootfs(scratch / "rootfs")
        image = await driver.selftest_image(rootfs)

        async def start(spec: ContainerSpec, folder: Path) -> None:
            init = "guarded" if driver.guards_init else "open"
            command = (*spec.workload.command, init, str(driver.user_inside))
            job = replace(spec.workload, command=command)
            await driver.start_with(replace(spec, image=image, workload=job), folder, extra)

        ends = await run_trials(start, scratch)
    except SandboxUnavailable as fault:
        return Probe(ok=False, why=str(fault))
    except OSError as fault:
        return Probe(ok=False, why=f"the self-test cannot work in {scratch}: {fault.strerror}")
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CHECK_SECONDS):
            await _clean(driver, scratch)
    return judge(ends, driver.soft_limits())


async def check_egress(driver: RunnerDriver) -> str:
    """Return why jobs cannot reach the node's proxy; "" if a container did."""
    scratch = driver.runs / f"selftest-{secrets.token_hex(4)}"
    folder = scratch / PROXY.limit
    spec = _spec_of(PROXY)
    command = (*spec.workload.command, *map(str, egress.ADDRESS))
    workload = replace(spec.workload, command=command, egress=(ANY,))
    try:
        await trio.to_thread.run_sync(lambda: folder.mkdir(mode=0o700, parents=True))
        rootfs, extra = host_rootfs(scratch / "rootfs")
        image = await driver.selftest_image(rootfs)
        await driver.start_with(replace(spec, image=image, workload=workload), folder, extra)
        end = await runfolder.wait(folder)
    except SandboxUnavailable as fault:
        return str(fault)
    except OSError as fault:
        return f"the self-test cannot work in {scratch}: {fault.strerror}"
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CHECK_SECONDS):
            await _clean(driver, scratch)
    return "" if PROXY.held(end) else f"a job did not reach the proxy: {end.detail or end}"


def judge(ends: dict[str, Exit], soft: frozenset[str]) -> Probe:
    """Return what the trials proved; the limits in `soft` are enforced only by watching."""
    held = {trial.limit for trial in TRIALS if trial.held(ends[trial.limit])}
    for limit in ("walls", "time", "memory"):
        if limit not in held:
            end = ends[limit]
            return Probe(ok=False, why=f"the self-test of {limit} failed: {end.detail or end}")
    if ends["memory"].reason != "memory":
        soft |= {"memory"}  # The hog was stopped, but not by the memory limit.
    limits = tuple(trial.limit for trial in TRIALS if trial.limit in held - soft - {"walls"})
    return Probe(ok=True, why="", limits=limits)


async def run_trials(start: Start, scratch: Path) -> dict[str, Exit]:
    """Run all trials, each in its own folder; SandboxUnavailable if one cannot start."""
    ends: dict[str, Exit] = {}
    failed: list[SandboxUnavailable] = []

    async def run(trial: Trial) -> None:
        folder = scratch / trial.limit
        folder.mkdir(mode=0o700)
        try:
            await start(_spec_of(trial), folder)
            ends[trial.limit] = await runfolder.wait(folder)
        except SandboxUnavailable as fault:
            failed.append(fault)

    with trio.move_on_after(CHECK_SECONDS) as scope:
        await run(TRIALS[0])  # Alone: if this one cannot start, the others are skipped.
        if not failed:
            await _require_proof(scratch / TRIALS[0].limit)
        async with trio.open_nursery() as nursery:
            for trial in () if failed else TRIALS[1:]:
                nursery.start_soon(run, trial)
    if failed:
        raise failed[0]
    if scope.cancelled_caught:
        raise SandboxUnavailable(f"the self-test did not end within {CHECK_SECONDS:g} s")
    return ends


def host_rootfs(folder: Path) -> tuple[Path, Extra]:
    """Make an empty root into which this machine's programs and its Python are bound."""
    for name in (*MOUNT_POINTS, "etc"):
        (folder / name).mkdir(parents=True)
    binds = []
    for name in ("usr", "bin", "lib", "lib64"):  # Docker puts its init into /sbin.
        host = Path("/") / name
        if host.is_symlink():
            (folder / name).symlink_to(host.readlink())
        elif host.is_dir():
            (folder / name).mkdir()
            binds.append((host, f"/{name}"))
    prefix = Path(sys.base_prefix).resolve()
    if not prefix.is_relative_to("/usr"):
        (folder / prefix.relative_to("/")).mkdir(parents=True, exist_ok=True)
        binds.append((prefix, str(prefix)))
    return folder, Extra(binds=tuple(binds))


def python_command(code: str) -> tuple[str, ...]:
    """Return the command that runs the code in a container of `host_rootfs`."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return (f"{Path(sys.base_prefix).resolve()}/bin/{name}", "-I", "-S", "-E", "-c", code)


def _spec_of(trial: Trial) -> ContainerSpec:
    """Return a small container that runs the trial."""
    workload = Workload(
        image=Digest(bytes(32)),
        command=python_command(trial.code),
        resources=Resources(cpus=1, memory_mib=LIMIT_MIB, disk_mib=DISK_MIB),
        timeout_ms=trial.timeout_ms,
        output_mib=1,
        log_mib=1,
        processes=LIMIT_PROCESSES,
    )
    name = NAME_PREFIX + secrets.token_hex(16)
    return ContainerSpec(name=name, workload=workload, image="")


async def _require_proof(folder: Path) -> None:
    """Raise SandboxUnavailable unless the first container succeeded and its output arrived."""
    proof = outputs_path(folder) / "proof"
    if not proof.is_file():
        log = log_path(folder).read_text(errors="replace").strip().splitlines()
        raise SandboxUnavailable(f"the self-test failed: {log[-1] if log else 'no output'}")
    await trio.lowlevel.checkpoint()


async def _clean(driver: RunnerDriver, scratch: Path) -> None:
    """Remove the trials' containers, folders and image."""
    for trial in (*TRIALS, PROXY):
        await driver.remove(scratch / trial.limit)
    await runfolder.remove_files(scratch)
    await driver.forget_selftest_image()
