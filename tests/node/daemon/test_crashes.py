"""Whole daemons that end at a bad time and start again: no job is lost, and nothing runs twice.

Spec: specs/core.md#recovery.
"""

import pytest
import trio

from node.provider import log_server
from node.requester import log_follower, results
from node.sandbox.driver import log_path
from protocol.values.ids import JobId
from tests.node.fixtures import until
from tests.node.local_node import LocalPair


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "UNREAD_S", 0)
    monkeypatch.setattr(log_follower, "RETRY_S", 0.01)
    monkeypatch.setattr(log_server, "POLL_S", 0.005)


async def test_the_requester_crashes_while_its_job_runs(pair: LocalPair) -> None:
    job = await pair.running()
    folder = await pair.container()
    log_path(folder).write_bytes(b"before\n")
    await pair.ada.crash()
    with log_path(folder).open("ab") as file:
        file.write(b"meanwhile\n")
    await pair.network.start(pair.ada)
    path = pair.ada.node.results.log_path(JobId(bytes.fromhex(job)))
    await until(lambda: path.exists() and path.read_bytes() == b"before\nmeanwhile\n")
    view = await pair.finish(job, result=b"1")
    assert view.attempts == 1


async def test_the_requester_is_away_when_its_job_ends(pair: LocalPair) -> None:
    job = await pair.running()
    await pair.ada.crash()
    pair.sandbox.finish(await pair.container(), result=b"1")
    await until(lambda: not pair.bea.node.executions._active)
    await pair.network.start(pair.ada)
    await pair.phase(job, "done")
    assert len(await pair.jobs.outputs(job)) == 1


async def test_the_provider_stops_and_leaves_nothing(
    pair: LocalPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.core.scheduler.OTHERS_WAIT_MS", 1_000)
    job = await pair.running()
    with trio.fail_after(5):
        await pair.bea.node.shut_down()
        await pair.bea.crash()
    assert list(pair.bea.node_folder.context.runs.iterdir()) == []
    view = await pair.phase(job, "failed")  # Nobody else is there.
    assert view.attempts > 1
