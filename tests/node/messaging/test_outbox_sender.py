"""Messages reach their peers in order, at least once, and as long as they are of use.

Spec: specs/core.md#outbox.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from node.driver.clock import Clock
from node.messaging import outbox_sender as module
from node.messaging.outbox_sender import OutboxSender
from node.storage.journal import Commit, Journal, NewMessage, OutboxRow
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId
from tests.node.fixtures import ADA, BEA, until

FAR_MS = 2**50


class Peers:
    """Peers that answer, or do not."""

    def __init__(self) -> None:
        self.got: list[tuple[PeerId, bytes]] = []
        self.tries = 0
        self.asked: list[bytes] = []
        self.away: set[PeerId] = set()
        self.slow = trio.Event()
        self.slow.set()
        self.lost: set[bytes] = set()

    async def request(self, peer: PeerId, data: bytes) -> bytes:
        self.tries += 1
        self.asked.append(data)
        slow = self.slow
        await trio.lowlevel.checkpoint()
        if peer in self.away or data in self.lost:
            self.lost.discard(data)
            raise PeerUnreachable("away")
        await slow.wait()
        self.got.append((peer, data))
        return b"\0"


@pytest.fixture
def peers() -> Peers:
    return Peers()


@pytest.fixture
def sender(peers: Peers, journal: Journal, clock: Clock) -> OutboxSender:
    return OutboxSender(peers.request, journal, clock)


@asynccontextmanager
async def running(sender: OutboxSender, *waiting: OutboxRow) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(sender.run, waiting)
        yield
        nursery.cancel_scope.cancel()


async def written(
    journal: Journal, *data: bytes, peer: PeerId = BEA.peer_id, until_ms: int = FAR_MS
):
    commit = Commit(outbox=tuple(NewMessage(peer, item, until_ms) for item in data))
    rows = (await journal.commit(commit)).outbox_rows
    return [OutboxRow(row, peer, item, until_ms) for row, item in zip(rows, data, strict=True)]


async def test_in_order_and_then_forgotten(
    sender: OutboxSender, peers: Peers, journal: Journal
) -> None:
    rows = await written(journal, b"1", b"2", b"3")
    async with running(sender, *rows[:2]):
        sender.send(rows[2])
        await sender.wait_empty()
        await until(lambda: len(peers.got) == 3)
        assert [data for _, data in peers.got] == [b"1", b"2", b"3"]
        with trio.fail_after(5):
            while await journal.outbox():
                await trio.lowlevel.checkpoint()


async def test_several_are_in_flight_once_the_peer_has_answered(
    sender: OutboxSender, peers: Peers
) -> None:
    messages = [OutboxRow(0, BEA.peer_id, b"%d" % number, FAR_MS) for number in range(20)]
    peers.slow = trio.Event()
    async with running(sender, *messages):
        await trio.testing.wait_all_tasks_blocked()
        assert peers.tries == 1  # It may be away: one time-out is enough.
        first, peers.slow = peers.slow, trio.Event()
        first.set()
        await until(lambda: peers.tries == 1 + module.IN_FLIGHT_MAX)
        await trio.testing.wait_all_tasks_blocked()
        assert peers.tries == 1 + module.IN_FLIGHT_MAX
        peers.slow.set()
        await sender.wait_empty()
    assert peers.asked == [message.envelope for message in messages]


async def test_what_fails_in_flight_is_sent_again_in_order(
    sender: OutboxSender, peers: Peers
) -> None:
    rows = [OutboxRow(0, BEA.peer_id, b"%d" % number, FAR_MS) for number in range(9)]
    again = [b"2", b"3"]
    peers.lost = set(again)
    async with running(sender, *rows):
        await sender.wait_empty()
    assert [data for data in peers.asked if data in again] == again * 2
    assert sorted(data for _, data in peers.got) == [row.envelope for row in rows]


async def test_acknowledged_messages_leave_the_disk_together(
    sender: OutboxSender, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[int] = []
    sent = journal.sent

    async def note(rows: Sequence[int]) -> None:
        deleted.append(len(rows))
        await sent(rows)

    monkeypatch.setattr(journal, "sent", note)
    async with running(sender, *await written(journal, *(b"%d" % n for n in range(9)))):
        await until(lambda: deleted)
    assert deleted == [9]


async def test_a_peer_that_is_away_holds_up_nobody_else(
    sender: OutboxSender, peers: Peers, journal: Journal
) -> None:
    peers.away.add(BEA.peer_id)
    to_bea, to_ada = await written(journal, b"b"), await written(journal, b"a", peer=ADA.peer_id)
    async with running(sender, *to_bea, *to_ada):
        await until(lambda: peers.got == [(ADA.peer_id, b"a")])
        await until(lambda: peers.tries > 2)
        peers.away.clear()
        sender.nudge(BEA.peer_id)
        await until(lambda: (BEA.peer_id, b"b") in peers.got)


async def test_a_new_connection_ends_the_pause(
    sender: OutboxSender, peers: Peers, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S_MIN", 1_000)
    peers.away.add(BEA.peer_id)
    async with running(sender, *await written(journal, b"1")):
        await until(lambda: peers.tries == 1)
        await trio.testing.wait_all_tasks_blocked()
        sender.send((await written(journal, b"2"))[0])  # A message alone does not end it.
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert peers.tries == 1
        peers.away.clear()
        sender.nudge(BEA.peer_id)
        await until(lambda: len(peers.got) == 2)


async def test_a_new_connection_makes_the_pauses_short_again(
    sender: OutboxSender, peers: Peers, journal: Journal, autojump_clock: trio.testing.MockClock
) -> None:
    """A peer that has just come back may not serve requests for a moment."""
    peers.away.add(BEA.peer_id)
    async with running(sender):
        sender.send(OutboxRow(0, BEA.peer_id, b"1", FAR_MS))
        await trio.sleep(100 * module.PAUSE_S_MAX)
        tries = peers.tries
        sender.nudge(BEA.peer_id)
        await trio.sleep(4 * module.PAUSE_S_MIN)
        assert peers.tries >= tries + 2


async def test_what_is_of_no_more_use_is_dropped(
    sender: OutboxSender, peers: Peers, journal: Journal, clock: Clock
) -> None:
    late = await written(journal, b"late", until_ms=clock.now_ms() - 1)
    rows = await written(journal, b"good")
    async with running(sender, *late, *rows):
        await until(lambda: [data for _, data in peers.got] == [b"good"])


async def test_what_is_not_on_the_disk_is_repeated_too_while_it_is_of_use(
    sender: OutboxSender, peers: Peers, clock: Clock
) -> None:
    peers.away.add(BEA.peer_id)
    async with running(sender):
        sender.send(OutboxRow(0, BEA.peer_id, b"late", clock.now_ms() - 1))
        sender.send(OutboxRow(0, BEA.peer_id, b"bid", FAR_MS))
        await until(lambda: peers.tries > 2)
        peers.away.clear()
        sender.nudge(BEA.peer_id)
        await until(lambda: peers.got)
        await sender.wait_empty()
    assert peers.got == [(BEA.peer_id, b"bid")]


async def test_what_has_no_deadline_is_tried_once(sender: OutboxSender, peers: Peers) -> None:
    peers.away.add(BEA.peer_id)
    async with running(sender):
        sender.send(OutboxRow(0, BEA.peer_id, b"beat", 0))
        await until(lambda: peers.tries == 1)
        await sender.wait_empty()
        peers.away.clear()
        sender.send(OutboxRow(0, BEA.peer_id, b"beat 2", 0))
        await until(lambda: peers.got)
    assert peers.got == [(BEA.peer_id, b"beat 2")]


async def test_a_peer_that_takes_nothing_does_not_fill_our_memory(
    sender: OutboxSender, peers: Peers, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX", 3)
    peers.slow = trio.Event()
    async with running(sender, *await written(journal, *(b"%d" % n for n in range(9)))):
        assert len(sender._lines[BEA.peer_id].queue) == 3
        peers.slow.set()
        await sender.wait_empty()
    assert len(await journal.outbox()) >= 6  # For the next start.


async def test_messages_whose_turn_never_came_leave_the_disk(
    sender: OutboxSender, journal: Journal, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIDY_S", 0.01)
    await written(journal, b"late", until_ms=clock.now_ms() - 1)
    async with running(sender):
        with trio.fail_after(5):
            while await journal.outbox():
                await trio.lowlevel.checkpoint()


async def test_an_idle_peer_costs_nothing(
    sender: OutboxSender, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.01)
    async with running(sender):
        sender.send(OutboxRow(0, BEA.peer_id, b"1", 0))
        await until(lambda: not sender._lines)
        sender.send(OutboxRow(0, BEA.peer_id, b"2", 0))
        await until(lambda: len(peers.got) == 2)


async def test_waiting_for_nothing_does_not_wait(sender: OutboxSender) -> None:
    async with running(sender):
        await sender.wait_empty()
        sender.nudge(BEA.peer_id)


async def test_who_waits_for_news_hears_of_what_was_given_up(
    peers: Peers, journal: Journal, clock: Clock
) -> None:
    missed: list[tuple[PeerId, bytes]] = []
    peers.away = {ADA.peer_id}
    sender = OutboxSender(peers.request, journal, clock, lambda *what: missed.append(what))
    late = await written(journal, b"late", peer=ADA.peer_id, until_ms=clock.now_ms() - 1)
    async with running(sender, *late):
        sender.send(OutboxRow(0, ADA.peer_id, b"once", 0))
        sender.send(OutboxRow(0, BEA.peer_id, b"arrives", 0))
        sender.send(OutboxRow(7, ADA.peer_id, b"goes on", FAR_MS))
        await until(lambda: len(missed) == 2 and peers.got)
    assert missed == [(ADA.peer_id, b"late"), (ADA.peer_id, b"once")]
