"""The daemon's end of a run folder, without a container.

Spec: specs/sandbox.md#run-folder.
"""

import os

from node.sandbox import runfolder
from node.sandbox.driver import Exit
from node.sandbox.runner import records


async def test_a_result_is_read(tmp_path):
    pairs = [("exit_code", "3"), ("usage_ms", "40"), ("reason", "exited"), ("detail", "a=b"),
             ("cpu_ms", "12"), ("refused", "x: y"), ("refused", "z: w")]  # fmt: skip
    runfolder.write_record(tmp_path, records.RESULT, pairs)
    assert await runfolder.wait(tmp_path) == Exit(
        3, "exited", "a=b", 40, 12, None, ("x: y", "z: w")
    )
    assert runfolder.is_known(tmp_path)


async def test_a_folder_without_a_result_failed(tmp_path):
    end = await runfolder.wait(tmp_path)
    assert (end.reason, end.refused) == ("failed", ())
    assert not runfolder.is_known(tmp_path)
    assert runfolder.name_in(tmp_path) == ""


def test_how_long_a_container_has_run_is_known_whoever_asks(tmp_path, monkeypatch):
    assert runfolder.usage_ms(tmp_path) == 0
    runfolder.write_record(tmp_path, records.STATE, [("runner", "1")])
    assert runfolder.usage_ms(tmp_path) == 0, "a runner of an older version does not say"
    runfolder.write_record(tmp_path, records.STATE, [("runner", "1"), ("started_ms", "5000")])
    monkeypatch.setattr("time.monotonic_ns", lambda: 12_345 * 10**6)
    assert runfolder.usage_ms(tmp_path) == 7_345
    runfolder.write_record(tmp_path, records.RESULT, [("usage_ms", "40")])
    assert runfolder.usage_ms(tmp_path) == 40


async def test_killing_and_extending_what_does_not_run(tmp_path):
    await runfolder.kill(tmp_path)
    os.mkfifo(tmp_path / records.CONTROL)
    await runfolder.kill(tmp_path)
    await runfolder.extend(tmp_path, 500)
    assert records.read(str(tmp_path / records.BUDGET)).number("ms") == 500


async def test_files_are_removed_once_and_for_all(tmp_path):
    folder = tmp_path / "run"
    (folder / "deep").mkdir(parents=True)
    await runfolder.remove_files(folder)
    assert not folder.exists()
    await runfolder.remove_files(folder)
