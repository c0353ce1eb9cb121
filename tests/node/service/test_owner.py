"""A whole daemon whose owner takes the machine back. Spec: specs/owner.md#modes."""

from datetime import datetime, timedelta

import pytest

from node.config.sections import Hours, ProviderSettings
from protocol.values.errors import Conflict
from protocol.wire.job import Terms
from tests.node.fixtures import until
from tests.node.local_node import LocalPair


async def test_a_paused_node_finishes_what_runs_and_takes_nothing_new(pair: LocalPair) -> None:
    job = await pair.running()
    owner = pair.bea.node.owner
    paused = await owner.pause()
    assert (paused.mode, paused.jobs) == ("paused", 1)
    status = pair.bea.node.service.status().provider
    assert (status.enabled, status.paused, status.closed) == (True, True, paused.closed)
    await until(lambda: not _known_to_provide(pair), "the requester to know")
    await pair.finish(job)
    await until(lambda: owner.state().jobs == 0, "no job to be left")
    waiting = await pair.submit()
    await pair.phase(waiting, "queued")
    await pair.bea.crash()
    await pair.network.start(pair.bea)
    assert pair.bea.node.owner.state() == owner.state()
    assert (await pair.bea.node.owner.resume()).closed == ""
    await pair.phase(waiting, "running")


async def test_to_reclaim_ends_what_runs(pair: LocalPair) -> None:
    job = await pair.running(terms=Terms(100_000, retries=0))
    owner = pair.bea.node.owner
    told = await owner.reclaim(0)
    assert (told.mode, told.until_ms is not None) == ("reclaimed", True)
    failed = await pair.phase(job, "failed")
    assert "takes the machine back" in failed.why
    await until(lambda: owner.state().jobs == 0, "no job to be left")
    assert not pair.sandbox.containers


async def test_a_node_that_lends_nothing_has_nothing_to_pause(pair: LocalPair) -> None:
    with pytest.raises(Conflict, match="lends nothing"):
        await pair.ada.node.owner.reclaim(None)


def _known_to_provide(pair: LocalPair) -> bool:
    (listing,) = pair.ada.node.core.directory.listings(0)
    return listing.record.providing


async def test_a_condition_that_is_not_met_is_seen_and_holds_from_the_start(
    pair: LocalPair,
) -> None:
    await pair.bea.crash()
    pair.bea.settings = ProviderSettings(hours=never())
    await pair.network.start(pair.bea)
    state = pair.bea.node.owner.state()
    assert [(one.rule, one.met) for one in state.conditions] == [("provider.hours", False)]
    assert state.closed.startswith("provider.hours: closed until ")
    assert pair.bea.node.core.presence.record is not None
    assert not pair.bea.node.core.presence.record.providing
    assert len(pair.bea.network.topics) > 1, "it hears calls, to explain why it does not answer"


def never() -> tuple[Hours, ...]:
    """Return one hour that is far from now, whenever the test runs."""
    return (Hours(f"{datetime.now() + timedelta(days=3):%a} 00:00-00:01".lower()),)  # noqa: DTZ005 - The clock on the wall.
