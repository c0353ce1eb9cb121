"""Checkpoints of running containers: copied whole or not at all, and there again after a restore.

Spec: specs/sandbox.md#checkpoints.
"""

# ruff: noqa: ASYNC240, ASYNC110

from pathlib import Path

import pytest
import trio

from node.sandbox import checkpoints
from node.sandbox.driver import RestoredFile, checkpoint_path, log_path
from node.sandbox.runner import collect
from node.sandbox.selftest import python_command
from protocol.values.errors import InvalidRequest, SandboxUnavailable
from protocol.wire.job import BlobRef
from tests.node.sandbox.conftest import launch_of, workload

WAIT = "; echo ready; exec sleep 60"
SAVE = "mkdir /out/new; echo 1 > /out/new/step; mv /out/new /out/state"


@pytest.fixture(params=["room", "bare_room"])
def any_room(request):
    """With control groups, and without."""
    return request.getfixturevalue(request.param)


async def begun(room, line, **fields):
    """Return the folder of a container whose shell has carried out a line."""
    folder = await room.start(launch_of(workload("/bin/sh", "-c", line + WAIT), **fields))
    await says(folder, "ready")
    return folder


async def says(folder, word):
    with trio.fail_after(20):
        while word not in log_path(folder).read_text():
            await trio.sleep(0.01)


def copied(folder):
    root = checkpoint_path(folder)
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


async def test_a_checkpoint_is_copied_once(any_room):
    folder = await begun(any_room, SAVE)
    mark = await any_room.driver.copy_checkpoint(folder, "state", b"")
    assert copied(folder) == {"state/step": "1\n"}
    assert await any_room.driver.copy_checkpoint(folder, "state", mark) == b""
    assert await any_room.driver.copy_checkpoint(folder, "state", b"another") == mark


async def test_one_that_replaces_another_by_a_rename_is_new(any_room):
    save = "echo {0} > /out/new; mv /out/new /out/file; echo saved {0}"
    job = f"trap '{save.format(2)}' TERM; {save.format(1)}; while :; do sleep 0.02; done"
    folder = await any_room.start(launch_of(workload("/bin/sh", "-c", job)))
    await says(folder, "saved 1")
    first = await any_room.driver.copy_checkpoint(folder, "file", b"")
    await any_room.driver.terminate(folder)
    await says(folder, "saved 2")
    assert await any_room.driver.copy_checkpoint(folder, "file", first) not in {b"", first}
    assert copied(folder) == {"file": "2\n"}


@pytest.mark.parametrize("path", ["state", "a/b/c", "loop/x", "closed/x", "file/x"])
async def test_nothing_at_the_path(room, path):
    line = "ln -s /in /out/a; ln -s loop /out/loop; touch /out/file; mkdir -m 0 /out/closed"
    folder = await begun(room, line)
    assert await room.driver.copy_checkpoint(folder, path, b"") == b""


@pytest.mark.parametrize(
    "line, why",
    [
        ("ln -s /etc/passwd /out/state", "state: a symbolic link"),
        (f"{SAVE}; ln /out/state/step /out/state/again", "state/again: a hard link"),
        (f"{SAVE}; ln -s /etc /out/state/etc", "state/etc: a symbolic link"),
    ],
)
async def test_what_outputs_refuse_is_no_checkpoint(room, line, why):
    folder = await begun(room, line)
    with pytest.raises(InvalidRequest, match=why):
        await room.driver.copy_checkpoint(folder, "state", b"")


async def test_a_copy_during_which_it_was_replaced_is_made_again(room, monkeypatch):
    folder = await begun(room, SAVE)
    marks = iter([b"1", b"2", b"2", b"2"])
    monkeypatch.setattr(checkpoints, "_mark_of", lambda out, path: next(marks))
    assert await room.driver.copy_checkpoint(folder, "state", b"") == b"2"


async def test_one_that_is_replaced_all_the_time_is_left_for_later(room, monkeypatch):
    folder = await begun(room, SAVE)
    marks = iter(range(100))
    monkeypatch.setattr(checkpoints, "_mark_of", lambda out, path: b"%d" % next(marks))
    assert await room.driver.copy_checkpoint(folder, "state", b"") == b""


async def test_what_is_removed_while_it_is_copied_is_not_our_fault(room, monkeypatch):
    folder = await begun(room, SAVE)

    def vanish(*_):
        raise FileNotFoundError(2, "gone")

    monkeypatch.setattr(collect, "collect_at", vanish)
    with pytest.raises(InvalidRequest, match="it changed while it was copied"):
        await room.driver.copy_checkpoint(folder, "state", b"")


async def test_a_container_that_has_ended_has_no_checkpoint_any_more(room):
    end, _, folder = await room.run_shell(SAVE)
    assert end.exit_code == 0
    assert await room.driver.copy_checkpoint(folder, "state", b"") == b""


async def test_a_job_that_is_told_to_end_may_save_its_state(any_room):
    code = (
        "import signal, sys, time\n"
        "def save(*_):\n    open('/out/state', 'w').write('saved'); sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, save)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    folder = await any_room.start(launch_of(workload(*python_command(code))))
    await says(folder, "ready")
    await any_room.driver.terminate(folder)
    end = await any_room.driver.wait(folder)
    assert (end.exit_code, end.reason) == (3, "exited")
    assert (folder / "outputs" / "state").read_text() == "saved"


async def test_a_restored_job_finds_its_files_and_may_replace_them(any_room, tmp_path):
    files = {}
    for name in ("state/deep/data", "state/tool"):
        files[name] = tmp_path / name.replace("/", "_")
        files[name].write_text(f"#!/bin/sh\necho {name}\n")
        files[name].chmod(0o400)
    restored = tuple(
        RestoredFile(name, source, executable=name.endswith("tool"))
        for name, source in files.items()
    )
    job = workload(
        "/bin/sh", "-c",
        "cat /out/state/deep/data; /out/state/tool; stat -c %u /out/state/tool; rm -r /out/state;"
        " ls /out; env | grep MUTIRAO",
        checkpoint="state", resume=(BlobRef(bytes(32), 1),),
    )  # fmt: skip
    end, log, _ = await any_room.run(launch_of(job, restored=restored))
    assert end.exit_code == 0, log
    first = "#!/bin/sh\necho state/deep/data\nstate/tool\n65532\n"
    assert log.startswith(first)
    assert sorted(log.removeprefix(first).splitlines()) == [
        "MUTIRAO_CHECKPOINT=/out/state", "MUTIRAO_RESUME=1",
    ]  # fmt: skip
    assert {source.stat().st_nlink for source in files.values()} == {1}


async def test_a_checkpoint_that_does_not_fit_is_said_and_nothing_starts(any_room, tmp_path):
    large = Path(tmp_path / "large")
    large.write_bytes(bytes(20 << 20))  # The disk has 15 MiB.
    job = workload("/bin/true", checkpoint="state")
    launch = launch_of(job, restored=(RestoredFile("state", large),))
    with pytest.raises(SandboxUnavailable, match="does not fit into the job's disk"):
        await any_room.start(launch)
