"""The answers to calls outlive their node, cost no commit of their own, and are bounded.

Spec: specs/bids.md#storage.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from node.provider import bid_log
from node.provider.bid_log import BidLog
from node.storage import journal as module
from node.storage.journal import Commit, Journal, NewMessage, open_journal
from protocol.machines.answers import AnsweredCall, BidResult
from protocol.machines.effects import Note
from protocol.rules.fraud import Fraud
from protocol.values.errors import StorageFull
from protocol.values.ids import CallId, PeerId
from protocol.values.reasons import Refusal
from protocol.wire.job import Resources
from tests.node.fixtures import until
from tests.node.local_node import LocalPair

OPEN = AnsweredCall(
    CallId(bytes(32)), 7, PeerId("p"), Resources(2, 64, 9, 1), 5, BidResult.OPEN, "", slots=2
)
LOST = replace(OPEN, result=BidResult.LOST, why="another bid was lower", price=4, winner="w")
REFUSED = replace(
    OPEN, call_id=CallId(b"r" * 32), result=BidResult.REFUSED, ask=0, refusal=Refusal.BUSY
)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(tmp_path / "node.db") as journal:
        yield journal


@pytest.fixture
def commits(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the transactions that have written."""
    seen, write = [], journal._database.write

    async def counted(unit: Any) -> Any:
        result = await write(unit)
        seen.append(1)
        return result

    monkeypatch.setattr(journal._database, "write", counted)
    return seen


async def test_every_answer_reads_as_it_was_noted_the_newest_first(journal: Journal) -> None:
    log = BidLog(journal)
    cheated = replace(OPEN, call_id=CallId(b"c" * 32), fraud=Fraud.WRONGLY_LOST, awards=2)
    for answered in (OPEN, REFUSED, LOST, cheated):
        log.note(Note(answered))
        await log.write()
    assert await log.newest(9) == (cheated, REFUSED, LOST), "an answer keeps its place"
    assert await log.newest(1) == (cheated,)


async def test_notes_share_the_commit_of_others(journal: Journal, commits: list[int]) -> None:
    log = BidLog(journal)
    log.note(Note(OPEN))
    log.note(Note(LOST))
    await journal.commit(Commit(outbox=(NewMessage(PeerId("ada"), b"x", 9),)))
    assert await journal.answers(9) != ()
    assert await log.newest(9) == (LOST,)
    await log.write()
    assert len(commits) == 1, "of one call the last state alone is written, with the message"


async def test_notes_that_no_commit_writes_are_written_together(
    journal: Journal, commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bid_log, "WRITE_S", 0.01)
    log = BidLog(journal)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        for number in range(20):
            log.note(Note(replace(OPEN, call_id=CallId(bytes([number]) * 32))))
        await until(lambda: commits)
        nursery.cancel_scope.cancel()
    assert len(await journal.answers(99)) == 20
    assert len(commits) == 1


async def test_a_full_disk_loses_no_note_and_ends_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(_unit: Any) -> None:
        raise StorageFull("the disk is full")

    log = BidLog(journal)
    with monkeypatch.context() as patch:
        patch.setattr(journal._database, "write", full)
        log.note(Note(OPEN))
        log.note(Note(REFUSED))
        await log.write()
        assert "bids are not stored: the disk is full" in caplog.text
        log.note(Note(LOST))
    assert await log.newest(9) == (REFUSED, LOST)


async def test_the_oldest_gives_way(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS_KEPT", 3)
    log = BidLog(journal)
    for number in range(5):
        log.note(Note(replace(OPEN, call_id=CallId(bytes([number]) * 32), at_ms=number)))
        await log.write()
        await log.write()
    log.note(Note(replace(OPEN, call_id=CallId(bytes([3]) * 32), at_ms=30)))
    assert [answered.at_ms for answered in await log.newest(9)] == [4, 30, 2]


async def test_an_open_bid_ends_with_its_node(journal: Journal) -> None:
    log = BidLog(journal)
    log.note(Note(OPEN))
    log.note(Note(REFUSED))
    await log.write()
    again = BidLog(journal)
    await again.recover()
    refused, silent = await again.newest(9)
    assert refused == REFUSED
    assert (silent.result, silent.ask) == (BidResult.SILENT, 5)
    assert silent.why == "this node restarted before the auction ended"


async def test_a_node_knows_its_bids_and_prices_after_a_crash_and_after_a_stop(
    pair: LocalPair,
) -> None:
    await pair.finish(await pair.running())
    won = await pair.bea.node.service.bids(9)
    assert [(one.result, one.awards) for one in won] == [("won", 1)]
    prices = await pair.bea.node.service.prices()
    for stops in (False, True):
        if stops:
            await pair.bea.node.shut_down()
        await pair.bea.crash()
        await pair.network.start(pair.bea)
        assert await pair.bea.node.service.bids(9) == won
        await pair.network.acquainted()
        assert await pair.bea.node.service.prices() == prices
