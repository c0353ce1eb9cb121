"""Every effect has a performer, and reaches it. Spec: specs/core.md#effects."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from node.daemon.effects import EffectTable, Performers
from node.storage.journal import OutboxRow
from protocol.core.jobs import Ending, Job
from protocol.machines import effects
from protocol.machines.events import Running
from protocol.rules.fraud import Finding, Fraud
from protocol.values.ids import CallId, digest_of
from protocol.wire.job import Workload
from protocol.wire.messages import Checkpoint
from tests.node.fixtures import ADA, BEA, JOB, LEASE, launch_of, ref_of, spec_of

WORKLOAD = Workload(digest_of(b"image"), ("true",))
JOB_STATE = Job(JOB, spec_of(WORKLOAD), 1)
ENDED = Job(JOB, spec_of(WORKLOAD), 1, ending=Ending.DONE)
LAUNCH = launch_of(WORKLOAD)
PREPARE = effects.Prepare(LEASE, ADA.peer_id, WORKLOAD)
FOLLOW = effects.FollowLog(JOB, LEASE, BEA.peer_id, WORKLOAD)
FETCH = effects.FetchOutputs(JOB, LEASE, BEA.peer_id, WORKLOAD, ref_of(b"x"))
REPORT = effects.Report(JOB, Running(BEA.peer_id))
PROGRESS = effects.Progress(JOB, 1, 2)
SETTLE = effects.Settle(LEASE, BEA.peer_id, ADA.peer_id, 1_000, 10**9, b"p", b"c")
PUBLISH, ADVERTISE = effects.Publish("topic", b"call"), effects.Advertise(b"record", 7)
SEND = OutboxRow(3, BEA.peer_id, b"message", 10)
FINDING = Finding(
    Fraud.WRONGLY_LOST, ADA.peer_id, None, CallId(bytes(32)), 1, bytes(8), "why"
)  # fmt: skip
ACCUSE = effects.Accuse(FINDING, b"proof")
CHECKPOINT = Checkpoint(LEASE, 1, ref_of(b"listing"), 1)
FETCH_CHECKPOINT = effects.FetchCheckpoint(JOB, LEASE, BEA.peer_id, WORKLOAD, CHECKPOINT)
KEEP_CHECKPOINT = effects.KeepCheckpoint(JOB, LEASE, 1, CHECKPOINT)
TAKE_CHECKPOINT = effects.TakeCheckpoint(LEASE, WORKLOAD, b"")
TERMINATE = effects.Terminate(LEASE, WORKLOAD)
KILL, DROP, EXTEND = effects.Kill(LEASE), effects.Drop(LEASE), effects.Extend(LEASE, 1)


class Recorder:
    """Stands for one part of the node: notes what it is asked."""

    def __init__(self, name: str, calls: list[Any]) -> None:
        self._name = name
        self._calls = calls

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *given: self._calls.append((f"{self._name}.{method}", *given))


def performed(effect: Any) -> list[Any]:
    calls: list[Any] = []
    parts = [Recorder(field.name, calls) for field in fields(Performers)]
    EffectTable(Performers(*parts)).perform(effect)
    return calls


@pytest.mark.parametrize("effect, call", [
    (effects.Save("job", JOB, JOB_STATE), ("jobs.saved", JOB_STATE)),
    (effects.Save("requester-lease", LEASE, None), ("results.forget", LEASE)),
    (REPORT, ("jobs.reported", REPORT)),
    (SETTLE, ("node.settled", SETTLE)),
    (SEND, ("outbox_sender.send", SEND)),
    (PUBLISH, ("announcer.publish", PUBLISH)),
    (ADVERTISE, ("announcer.advertise", ADVERTISE)),
    (effects.Learn(BEA.peer_id, ("/a",)), ("network.learn", BEA.peer_id, ("/a",))),
    (effects.Reach((BEA.peer_id,)), ("connector.want", (BEA.peer_id,))),
    (PROGRESS, ("jobs.progressed", PROGRESS)),
    (FOLLOW, ("results.follow_log", FOLLOW)),
    (FETCH, ("results.fetch_outputs", FETCH)),
    (ACCUSE, ("proofs.keep", ACCUSE)),
    (FETCH_CHECKPOINT, ("results.fetch_checkpoint", FETCH_CHECKPOINT)),
    (KEEP_CHECKPOINT, ("results.keep_checkpoint", KEEP_CHECKPOINT)),
    (TAKE_CHECKPOINT, ("executions.take_checkpoint", TAKE_CHECKPOINT)),
    (TERMINATE, ("executions.terminate", TERMINATE)),
    (PREPARE, ("executions.prepare", PREPARE)),
    (LAUNCH, ("executions.launch", LAUNCH)),
    (EXTEND, ("executions.extend", EXTEND)),
    (KILL, ("executions.kill", KILL)),
    (DROP, ("executions.drop", DROP)),
], ids=lambda given: type(given).__name__)  # fmt: skip
def test_an_effect_reaches_its_performer(effect: Any, call: Any) -> None:
    assert performed(effect) == [call]


def test_the_checkpoint_of_a_job_that_has_ended_is_dropped() -> None:
    saved = performed(effects.Save("job", JOB, ENDED))
    assert saved == [("jobs.saved", ENDED), ("results.drop_checkpoint", JOB)]


@pytest.mark.parametrize("saved", [
    effects.Save("award", b"lease", None), effects.Save("requester-lease", LEASE, WORKLOAD),
    effects.Save("provider-lease", LEASE, None),
])  # fmt: skip
def test_of_other_states_nobody_has_to_hear(saved: effects.Save) -> None:
    assert performed(saved) == []


def test_every_effect_has_a_performer() -> None:
    parts = [Recorder(field.name, []) for field in fields(Performers)]
    handled = set(EffectTable(Performers(*parts))._table)
    # The driver has made a row of the outbox of every Send.
    assert handled == {*effects.Effect.__args__, OutboxRow} - {effects.Send}


def test_jobs_of_others_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    performed(LAUNCH)
    assert "a job of a peer starts here" in caplog.text
