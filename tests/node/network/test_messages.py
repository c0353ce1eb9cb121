"""Frames on a stream: ours to peers, and theirs to us. No libp2p here.

Spec: specs/network.md.
"""

import pytest
import trio
import trio.testing

from node.network import messages
from node.network.messages import (
    FRAME_BYTES_MAX,
    IN_FLIGHT_MAX,
    READ_BYTES,
    SMALL_BYTES,
    STREAMS_PER_PEER_MAX,
    Answers,
    Requests,
)
from protocol.values.errors import MalformedMessage, PeerUnreachable
from protocol.values.ids import PeerId
from tests.node.network.fixtures import PATIENT, answering, echo, tuned

ADA = PeerId("ada")


class Script:
    """A stream that reads what it is told, and remembers what is written."""

    def __init__(self, data=b"", breaks=False):
        self.peer = ADA
        self.data = data
        self.breaks = breaks
        self.written = b""
        self.was_reset = False

    async def read_some(self, size_max):
        await trio.lowlevel.checkpoint()
        if self.breaks and not self.data:
            raise PeerUnreachable("broken")
        piece, self.data = self.data[:size_max], self.data[size_max:]
        return piece

    wait_some = read_some

    async def read_exactly(self, size):
        piece = await self.read_some(size) if size else b""
        if len(piece) < size:
            raise PeerUnreachable("ended")
        return piece

    async def write(self, data):
        await trio.lowlevel.checkpoint()
        self.written += data

    async def close(self):
        await trio.lowlevel.checkpoint()

    async def reset(self):
        self.was_reset = True


class Live(Script):
    """A stream that stays open and reads what the test hears from the peer."""

    def __init__(self):
        super().__init__()
        self.says, self._heard = trio.open_memory_channel(100)

    async def read_some(self, size_max):
        if not self.data:
            self.data = await self._heard.receive()
            if self.data is None:
                raise PeerUnreachable("broken")
        return await super().read_some(size_max)

    wait_some = read_some

    def hear(self, *data):
        for one in data:
            self.says.send_nowait(one and frame(one))

    def asked(self):
        """What was written, as frames."""
        found, rest = [], self.written
        while rest:
            size = int.from_bytes(rest[:4])
            found.append(rest[4 : 4 + size])
            rest = rest[4 + size :]
        return found


def frame(data):
    return len(data).to_bytes(4) + data


def requests(*streams, **changes):
    """Requests over prepared streams; `blamed` collects faults."""
    left = list(streams)

    async def open_stream(peer, protocol):
        await trio.lowlevel.checkpoint()
        if not left:
            raise PeerUnreachable("no more streams")
        return left.pop(0)

    blamed = []
    made = Requests(open_stream, blamed.append, tuned(**changes) if changes else PATIENT)
    made.blamed = blamed
    return made


async def test_one_stream_serves_many_requests():
    stream = Script(frame(b"1") + frame(b"2"))
    made = requests(stream)
    assert await made.request(ADA, b"a") == b"1"
    assert await made.request(ADA, b"b") == b"2"
    assert stream.written == frame(b"a") + frame(b"b")


async def test_a_broken_stream_is_replaced():
    old, new = Script(frame(b"1"), breaks=True), Script(frame(b"2"))
    made = requests(old, new)
    assert await made.request(ADA, b"a") == b"1"
    assert await made.request(ADA, b"b") == b"2"
    assert old.was_reset


async def test_a_new_stream_that_breaks_is_not_tried_again():
    made = requests(Script(breaks=True), Script(frame(b"never")))
    with pytest.raises(PeerUnreachable):
        await made.request(ADA, b"a")
    assert not made._lines  # Peers that are nowhere leave nothing behind.


async def test_an_answer_too_large_is_blamed():
    made = requests(Script((FRAME_BYTES_MAX + 1).to_bytes(4)))
    with pytest.raises(PeerUnreachable):
        await made.request(ADA, b"a")
    assert [type(fault) for fault in made.blamed] == [MalformedMessage]


async def test_a_request_that_times_out_gives_up_its_stream(autojump_clock):
    class Silent(Script):
        async def read_some(self, size_max):
            await trio.sleep_forever()

    silent, good = Silent(), Script(frame(b"2"))
    made = requests(silent, good)
    with pytest.raises(PeerUnreachable, match="did not answer"):
        await made.request(ADA, b"a")
    assert silent.was_reset
    assert await made.request(ADA, b"b") == b"2"


async def test_waiting_for_ones_turn_counts(autojump_clock):
    class Silent(Script):
        async def read_some(self, size_max):
            await trio.sleep_forever()

    made = requests(*(Silent() for _ in range(3)), request_timeout_ms=1_000)
    started_s = trio.current_time()

    async def ask():
        with pytest.raises(PeerUnreachable):
            await made.request(ADA, b"a")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert trio.current_time() - started_s == pytest.approx(1)


class Asked:
    """Requests of one peer that were begun in order, and what became of each."""

    def __init__(self, made, *data):
        self.made, self.data = made, data
        self.answers = {}

    async def run(self, nursery):
        for data in self.data:
            nursery.start_soon(self._ask, data)
            await trio.testing.wait_all_tasks_blocked()

    async def _ask(self, data):
        try:
            self.answers[data] = await self.made.request(ADA, data)
        except PeerUnreachable:
            self.answers[data] = None


async def test_requests_do_not_wait_for_the_answers_to_those_before():
    stream = Live()
    asked = Asked(requests(stream), b"a", b"b", b"c")
    async with trio.open_nursery() as nursery:
        await asked.run(nursery)
        assert stream.asked() == [b"a", b"b", b"c"]
        stream.says.send_nowait(frame(b"1") + frame(b"2"))  # In one piece.
        await trio.testing.wait_all_tasks_blocked()
        assert asked.answers == {b"a": b"1", b"b": b"2"}
        stream.hear(b"3")
    assert asked.answers == {b"a": b"1", b"b": b"2", b"c": b"3"}


async def test_what_was_in_flight_when_a_stream_broke_is_sent_again_in_order():
    old, new = Live(), Live()
    asked = Asked(requests(old, new), b"a", b"b", b"c", b"d")
    async with trio.open_nursery() as nursery:
        await asked.run(nursery)
        old.hear(b"1", None)
        await trio.testing.wait_all_tasks_blocked()
        assert new.asked() == [b"b"]  # The others wait for how it fares.
        new.hear(b"2", b"3", b"4")
    assert asked.answers == {b"a": b"1", b"b": b"2", b"c": b"3", b"d": b"4"}
    assert new.asked() == [b"b", b"c", b"d"]


async def test_a_peer_that_went_away_is_dialled_once_for_all_that_was_in_flight():
    stream = Live()
    dialled = []

    async def open_stream(peer, protocol):
        await trio.lowlevel.checkpoint()
        dialled.append(peer)
        if len(dialled) > 1:
            raise PeerUnreachable("away")
        return stream

    made = Requests(open_stream, print, PATIENT)
    asked = Asked(made, b"a", b"b", b"c")
    async with trio.open_nursery() as nursery:
        await asked.run(nursery)
        stream.hear(b"1", None)
    assert asked.answers == {b"a": b"1", b"b": None, b"c": None}
    assert len(dialled) == 2
    assert not made._lines


async def test_forgetting_resets_a_stream_that_rests():
    stream = Script(frame(b"1"))
    made = requests(stream)
    await made.request(ADA, b"a")
    await made.forget(ADA)
    await made.forget(ADA)
    assert stream.was_reset
    assert not made._lines


async def test_answers_come_in_order():
    stream = Script(frame(b"1") + frame(b"") + frame(b"3"))
    await Answers(echo, PATIENT).serve(ADA, stream)
    assert stream.written == frame(b"1") + frame(b"") + frame(b"3")


async def test_a_few_requests_are_processed_at_a_time_and_answered_in_order():
    """In whatever order the answers are ready."""
    ready, seen = {}, []

    async def accept(peer, data):
        await trio.lowlevel.checkpoint()
        seen.append(data)
        done = ready[data] = trio.Event()

        async def answer():
            await done.wait()
            return data

        return answer

    stream = Live()
    sent = [b"%d" % number for number in range(IN_FLIGHT_MAX + 3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Answers(accept, PATIENT).serve, ADA, stream)
        stream.hear(*sent)
        await trio.testing.wait_all_tasks_blocked()
        assert seen == sent[:IN_FLIGHT_MAX]
        ready[sent[1]].set()
        await trio.testing.wait_all_tasks_blocked()
        assert stream.written == b""
        ready[sent[0]].set()
        await trio.testing.wait_all_tasks_blocked()
        assert stream.asked() == sent[:2]
        assert seen == sent[: IN_FLIGHT_MAX + 2]
        nursery.cancel_scope.cancel()


async def test_after_a_large_request_nothing_is_read_until_it_is_answered(monkeypatch):
    monkeypatch.setattr(messages, "SMALL_BYTES", 10)
    free, seen = trio.Event(), []

    async def accept(peer, data):
        await trio.lowlevel.checkpoint()
        seen.append(len(data))

        async def answer():
            await free.wait()
            return b""

        return answer

    stream = Live()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Answers(accept, PATIENT).serve, ADA, stream)
        stream.hear(bytes(10), bytes(11), b"1")
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [10, 11]
        free.set()
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [10, 11, 1]
        nursery.cancel_scope.cancel()
    assert SMALL_BYTES * IN_FLIGHT_MAX <= FRAME_BYTES_MAX


async def test_a_frame_too_large_is_not_read():
    stream = Script(b"\xff" * 3 * READ_BYTES)
    with pytest.raises(MalformedMessage):
        await Answers(echo, PATIENT).serve(ADA, stream)
    assert len(stream.data) == 2 * READ_BYTES


async def test_half_a_frame_breaks_the_stream():
    for data in (b"\0\0", frame(b"whole")[:-1]):
        with pytest.raises(PeerUnreachable):
            await Answers(echo, PATIENT).serve(ADA, Script(data))


async def test_a_handler_that_hangs_is_given_up(autojump_clock):
    @answering
    async def hang(peer, data):
        await trio.sleep_forever()

    with pytest.raises(PeerUnreachable, match="too long"):
        await Answers(hang, PATIENT).serve(ADA, Script(frame(b"1")))


async def test_a_peer_has_few_streams(autojump_clock):
    @answering
    async def hang(peer, data):
        await trio.sleep_forever()

    answers = Answers(hang, PATIENT)
    streams = [Script(frame(b"1")) for _ in range(STREAMS_PER_PEER_MAX + 1)]
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(answers.serve, ADA, stream)
        await trio.testing.wait_all_tasks_blocked()
        assert [stream.was_reset for stream in streams].count(True) == 1
        nursery.cancel_scope.cancel()
    assert not answers._streams
