"""Attacks on the embedded sandbox, each contained, and the life of a container.

Spec: specs/sandbox.md#embedded-driver.
"""

# ruff: noqa: ASYNC110, ASYNC240

import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from node.sandbox import runfolder
from node.sandbox.driver import log_path, outputs_path
from node.sandbox.embedded import FIRST_JOB_UID, find_bwrap, find_libraries, job_user
from node.sandbox.runner import cgroups, lock, records
from protocol.values.errors import SandboxUnavailable
from protocol.wire.job import EnvVar
from tests.node.sandbox.conftest import NAP, launch_of, running, workload

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def test_a_job_runs_and_its_outputs_come_out(room):
    end, log, folder = await room.run_shell(
        "id -u; echo to-stderr >&2; mkdir /out/a; echo data > /out/a/b; exit 7"
    )
    assert (end.exit_code, end.reason) == (7, "exited")
    assert end.detail == "the command ended with exit code 7"
    assert log == "65532\nto-stderr\n"
    output = outputs_path(folder) / "a" / "b"
    assert output.read_text() == "data\n"
    assert output.stat().st_mode & 0o7777 == 0o600
    assert end.usage_ms < 20_000


async def test_inputs_are_there_and_cannot_be_changed(room, tmp_path):
    secret = tmp_path / "blob"
    secret.write_text("precious")
    secret.chmod(0o600)
    job = workload("/bin/sh", "-c", "cat /in/deep/name; echo x > /in/deep/name; echo x > /in/new")
    _, log, _ = await room.run(launch_of(job, inputs=(("deep/name", secret),)))
    assert log.startswith("precious")
    assert secret.read_text() == "precious"
    assert log.count("Read-only file system") == 2


async def test_environment_and_folder_are_the_jobs(room):
    job = workload("/bin/sh", "-c", "env; pwd", env=(EnvVar("A", "job=1\n2"),))
    _, log, _ = await room.run(launch_of(job, env=(("A", "image"), ("B", "b")), working_dir="/usr"))
    assert "A=job=1\n2" in log
    assert "B=b" in log
    assert log.endswith("/usr\n")
    assert "LD_LIBRARY_PATH" not in log


async def test_the_machine_does_not_show(room):
    _, log, _ = await room.run_shell(
        "ls /sys /home; cat /proc/kallsyms /proc/iomem | wc -c; echo procs /proc/[0-9]*;"
        "tr '\\0' ' ' < /proc/1/cmdline; echo; grep -c : /proc/net/dev; id -u"
    )
    assert "0\nprocs /proc/1 /proc/2" in log
    assert str(room.rootfs) not in log
    assert "\n1\n65532" in log  # One interface: the loopback.


@needs_root
async def test_a_job_of_root_is_nobody_on_the_machine(room):
    launch = launch_of(workload("/bin/sleep", "20"))
    folder = await room.start(launch)
    user = job_user(launch.name)
    assert user >= FIRST_JOB_UID
    with trio.fail_after(10):  # The job begins a moment after the start is reported.
        while user not in _owners("sleep"):
            await trio.sleep(0.01)
    await room.driver.kill(folder)


@pytest.mark.parametrize(
    "command, code, line",
    [
        ("/bin/no-such-program", 127, "/bin/no-such-program: not found in the image"),
        ("no-such-program", 127, "no-such-program: not found in the image"),
        ("/in/text", 126, "/in/text: Permission denied"),
        ("/etc", 126, "/etc: Permission denied"),
    ],
)
async def test_a_command_that_cannot_be_executed_ends_as_in_a_shell(
    room, tmp_path, command, code, line
):
    text = tmp_path / "text"
    text.write_text("no program")
    launch = launch_of(workload(command, "x"), inputs=(("text", text),))
    end, log, _ = await room.run(launch)
    assert (end.exit_code, end.reason, end.detail) == (code, "exited", line)
    assert log.endswith(f"mutirao: {line}\n")


async def test_a_memory_hog_is_stopped(room):
    end, _, _ = await room.run_python("x = bytearray(2**30)")
    assert end.exit_code != 0
    if "memory" in room.driver.hard_limits():
        assert end.reason == "memory"
        assert "64 MiB" in end.detail
        assert end.memory_peak_mib <= 64


async def test_a_memory_hog_without_control_groups_is_stopped(bare_room):
    end, log, _ = await bare_room.run_python("x = bytearray(2**30)")
    assert end.exit_code == 1
    assert "MemoryError" in log


async def test_files_in_memory_count_without_control_groups(bare_room):
    code = (
        "import time\nfor n in range(3):\n"
        " open(f'/dev/shm/{n}', 'wb').write(bytes(10 << 20))\n"
        " open(f'/tmp/{n}', 'wb').write(bytes(5 << 20))\n"
        "x = bytearray(25 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\ntime.sleep(20)"
    )
    end, _, _ = await bare_room.run_python(code, disk_in_memory=True)
    assert end.reason == "memory"


async def test_no_file_without_a_name_where_memory_is_soft(bare_room):
    end, log, _ = await bare_room.run_python("import os; os.memfd_create('x')")
    assert end.exit_code == 1
    assert "PermissionError" in log


FORK = """
import os, time
n = 1
try:
    while n < 200:
        if os.fork() == 0: time.sleep(30)
        n += 1
except OSError: pass
print(n, flush=True)
os._exit(0)
"""


async def test_a_fork_bomb_is_bounded(room):
    _, log, _ = await room.run_python(FORK)
    if "pids" in room.driver.hard_limits():
        assert int(log) == 16  # Exactly what was promised.


async def test_a_fork_bomb_without_control_groups_is_bounded(bare_room):
    _, log, _ = await bare_room.run_python(FORK)
    assert int(log) < 40


async def test_folders_in_memory_are_bounded(room):
    _, log, _ = await room.run_shell(
        "for d in /tmp /dev/shm /out /scratch; do head -c 40M /dev/zero > $d/x; wc -c < $d/x;"
        " rm $d/x; done",
        memory_mib=64,
        disk_in_memory=True,
    )
    sizes = [int(line) for line in log.splitlines() if line.isdigit()]
    assert sizes == [16 << 20, 32 << 20, 2 << 20, 16 << 20]


async def test_a_disk_is_bounded_by_the_kernel_where_it_can_be(room):
    """One disk of 15 MiB for the three folders: what one takes the others lack."""
    if "disk" not in room.driver.hard_limits():
        pytest.skip("this user may not mount: see the test of the watched disk")
    end, log, folder = await room.run_shell(
        "head -c 9M /dev/zero > /scratch/x; head -c 9M /dev/zero > /tmp/x; wc -c < /tmp/x;"
        " echo y > /out/y; exit 3"
    )
    assert (end.exit_code, end.reason) == (3, "exited")
    assert end.detail == "the disk of 15 MiB (/out, /tmp and /scratch) is full; ask for more"
    assert log.endswith(f"mutirao: {end.detail}\n")
    assert 5 << 20 < int(next(line for line in log.splitlines() if line.isdigit())) < 8 << 20
    mounted = Path("/proc/self/mounts").read_text()
    assert str(folder) not in mounted  # It is mounted for the runner and its container alone.
    await room.driver.remove(folder)


SHUT = """
import os, time
os.mkdir('/out/shut')
open('/out/shut/x', 'wb').write(bytes(40 << 20))
os.chmod('/out/shut', 0o400)
time.sleep(60)
"""
HIDE = """
import os
for n in range(40):
    file = open(f'/tmp/{n}', 'wb', buffering=0)
    os.unlink(f'/tmp/{n}')
    file.write(bytes(1 << 20))
    globals()[f'kept{n}'] = file
print('written', flush=True)
import time; time.sleep(60)
"""
DIG = """
import os
os.chdir('/scratch')
for _ in range(300):
    os.mkdir('x' * 200); os.chdir('x' * 200)
os.chmod('/out', 0)
import time; time.sleep(60)
"""


@pytest.mark.parametrize(
    "code",
    [
        SHUT,
        HIDE,
        DIG,
    ],
)
async def test_a_watched_disk_ends_the_job_within_a_second(bare_room, code):
    end, _, _ = await bare_room.run_python(code)
    assert (end.exit_code, end.reason) == (137, "disk")
    assert "more than its 15 MiB of disk" in end.detail


async def test_a_file_larger_than_the_memory_comes_out(room):
    """The pages of a disk are not the job's memory: the kernel writes them out and goes on."""
    job = workload("/bin/sh", "-c", "head -c 96M /dev/zero > /out/large", output_mib=100)
    job = replace(job, resources=replace(job.resources, memory_mib=32, disk_mib=128))
    end, log, folder = await room.run(launch_of(job))
    assert (end.exit_code, log) == (0, "")
    assert (outputs_path(folder) / "large").stat().st_blocks << 9 >= 96 << 20


async def test_a_log_flood_is_cut_and_the_job_lives_on(room):
    end, log, _ = await room.run_shell("head -c 30M /dev/zero | tr '\\0' x; echo y > /out/alive")
    assert end.exit_code == 0
    assert log.endswith("\n… log truncated at 1 MiB\n")
    assert len(log) < (1 << 20) + 100


async def test_a_job_that_ignores_signals_ends_in_time(room):
    code = (
        "import os,signal,time\n"
        "for n in (1,2,3,15): signal.signal(n, signal.SIG_IGN)\n"
        "if os.fork() == 0: os.setsid()\n"
        "time.sleep(60)"
    )
    end, _, folder = await room.run_python(code, timeout_ms=1000)
    assert (end.exit_code, end.reason) == (137, "timeout")
    assert 1000 <= end.usage_ms < 5000
    assert not _group(room, folder).folders


async def test_a_daemon_that_holds_stdout_ends_with_the_job(room):
    end, _, _ = await room.run_shell("(trap '' 1 2 15; sleep 60) & exit 0")
    assert end.exit_code == 0
    assert end.usage_ms < 10_000


async def test_a_budget_ends_a_container_and_can_be_extended(room):
    launch = launch_of(workload("/bin/sleep", "30"), budget_ms=1500)
    folder = await room.start(launch)
    await room.driver.extend(folder, 2500)
    end = await room.driver.wait(folder)
    assert end.reason == "budget"
    assert 2500 <= end.usage_ms < 8000


async def test_kill_is_idempotent(room):
    folder = await room.start(launch_of(workload("/bin/sleep", "30")))
    await room.driver.kill(folder)
    await room.driver.kill(folder)
    end = await room.driver.wait(folder)
    assert (end.exit_code, end.reason) == (137, "killed")


async def test_starting_twice_takes_over(room):
    launch = launch_of(workload("/bin/sh", "-c", "echo once; sleep 0.3"))
    folder = await room.start(launch)
    await room.driver.start(launch, folder)
    assert await room.driver.take_over(folder)
    await room.driver.wait(folder)
    await room.driver.start(launch, folder)
    assert await room.driver.take_over(folder)
    assert log_path(folder).read_text() == "once\n"


async def test_a_container_that_ends_while_it_is_taken_over_is_not_replaced(room, monkeypatch):
    launch = launch_of(workload("/bin/echo", "once"))
    folder = await room.start(launch)
    await room.driver.wait(folder)
    (folder / records.RESULT).unlink()  # As if the runner had died before it.
    monkeypatch.setattr(runfolder, "is_known", lambda _: True)
    with pytest.raises(SandboxUnavailable, match="container was lost with the runner"):
        await room.driver.take_over(folder)
    monkeypatch.undo()
    for again in (room.driver.take_over(folder), room.driver.start(launch, folder)):
        with pytest.raises(SandboxUnavailable, match="lost when its machine went down"):
            await again
    assert log_path(folder).read_text() == "once\n"


async def test_a_container_without_an_image_has_not_the_daemons_folder_as_its_root(
    room, monkeypatch
):
    monkeypatch.chdir(room.driver.runs.parent)
    with pytest.raises(SandboxUnavailable, match="no image"):
        await room.driver.start(launch_of(workload("/bin/true"), image=""), room.folder())
    assert not Path("proc").exists()


async def test_a_dead_runner_takes_its_container_along(room):
    folder = await room.start(launch_of(workload("/bin/sleep", NAP)))
    with trio.fail_after(20):  # bwrap asks for its parent's death just before the command begins.
        while not running(f"/bin/sleep\0{NAP}"):
            await trio.sleep(0.01)
    os.kill(lock.holder(str(folder / "lock")), 9)
    end = await room.driver.wait(folder)
    assert end.reason == "failed"
    with trio.fail_after(20):
        while _group(room, folder).members() or running(f"/bin/sleep\0{NAP}"):
            await trio.sleep(0.01)


async def test_remove_leaves_nothing(room):
    folder = await room.start(launch_of(workload("/bin/sleep", "30")))
    group = _group(room, folder)
    await room.driver.remove(folder)
    assert not folder.exists()
    assert not any(Path(place).parent.exists() for place in group.folders.values())
    await room.driver.remove(folder)


async def test_reap_ends_what_nobody_knows(room):
    launch = launch_of(workload("/bin/sleep", "30"))
    folder = await room.start(launch)
    await room.driver.reap(frozenset({launch.name}))
    assert runfolder.is_alive(folder)
    await room.driver.reap(frozenset())
    end = await room.driver.wait(folder)
    assert end.exit_code == 137


async def test_a_hostile_mount_point_is_refused(room):
    (room.rootfs / "out").rmdir()
    (room.rootfs / "out").symlink_to("/etc")
    with pytest.raises(SandboxUnavailable, match="/out is not a folder"):
        await room.start(launch_of(workload("/bin/true")))


async def test_a_start_that_fails_says_why_and_may_be_tried_again(room):
    launch = launch_of(workload("/bin/true"), working_dir="/no/such/folder")
    end, _, _ = await room.run(launch)
    assert end.exit_code != 0
    assert "/no/such/folder" in end.detail


async def test_outputs_that_are_no_files_are_refused(room):
    end, log, folder = await room.run_shell(
        "cd /out; ln -s /etc/passwd link; echo x > real; ln real hard; truncate -s 1G sparse"
    )
    assert [path.name for path in outputs_path(folder).iterdir()] == ["sparse"]
    assert (outputs_path(folder) / "sparse").stat().st_size == 0
    assert "mutirao: not in the outputs: hard: a hard link; link: a symbolic link" in log
    assert [line.partition(":")[0] for line in end.refused][:3] == ["hard", "link", "real"]


def test_the_program_and_its_libraries_are_found():
    assert os.access(find_bwrap(), os.X_OK)
    libraries = find_libraries()
    assert libraries is None or libraries.is_dir()


def _group(room, folder) -> cgroups.Group:
    return cgroups.find(f"{room.driver.group}/{runfolder.name_in(folder)}")


def _owners(program: str) -> set[int]:
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "comm").read_text() == f"{program}\n":
                found.add(place.stat().st_uid)
        except OSError:
            continue
    return found


async def test_a_gpus_library_is_seen_below_dev(room, tmp_path):
    library = tmp_path / "libcuda.so.1"
    library.write_text("the driver's library")
    bound = (library, "/dev/nvidia-libraries/libcuda.so.1")
    with_gpu = replace(room, extra=replace(room.extra, binds=(*room.extra.binds, bound)))
    end, log, _ = await with_gpu.run_python(f"print(open({bound[1]!r}).read())")
    assert (end.exit_code, log) == (0, "the driver's library\n")
