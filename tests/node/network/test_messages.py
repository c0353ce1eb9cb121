"""Frames on a stream: ours to peers, and theirs to us. No libp2p here.

Spec: specs/network.md.
"""

import pytest
import trio
import trio.testing

from node.network.messages import FRAME_BYTES_MAX, STREAMS_PER_PEER_MAX, Answers, Requests
from protocol.values.errors import MalformedMessage, PeerUnreachable
from protocol.values.ids import PeerId
from tests.node.network.fixtures import PATIENT, echo, tuned

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


async def test_a_frame_too_large_is_not_read():
    stream = Script(b"\xff" * 1000)
    with pytest.raises(MalformedMessage):
        await Answers(echo, PATIENT).serve(ADA, stream)
    assert len(stream.data) == 996


async def test_half_a_frame_breaks_the_stream():
    for data in (b"\0\0", frame(b"whole")[:-1]):
        with pytest.raises(PeerUnreachable):
            await Answers(echo, PATIENT).serve(ADA, Script(data))


async def test_a_handler_that_hangs_is_given_up(autojump_clock):
    async def hang(peer, data):
        await trio.sleep_forever()

    with pytest.raises(PeerUnreachable, match="too long"):
        await Answers(hang, PATIENT).serve(ADA, Script(frame(b"1")))


async def test_a_peer_has_few_streams(autojump_clock):
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
