"""A blob comes whole or not at all, from whoever has it, and goes on where it was.

Spec: specs/data.md#transfer.
"""

import hashlib
import os
from pathlib import Path

import pytest
import trio

from node.data.blobs import BlobRef, Blobs
from node.data.frames import (
    CHUNK,
    ChunkRequest,
    ListRequest,
    Reply,
    ReplyStatus,
    decode_request,
    encode_reply,
    read_frame,
    read_frame_or_end,
    send_frame,
)
from node.data.session import AHEAD_MAX
from node.data.transfer import BlobFetcher, BlobServer, Holding, Ways
from protocol.values.errors import BlobUnavailable, PeerUnreachable, RuleBroken, StorageFull
from protocol.values.ids import Digest, PeerId, digest_of

HOLDER, LIAR, OTHER = PeerId("holder"), PeerId("liar"), PeerId("other")
MIB = 1024 * 1024
DATA = os.urandom(5 * MIB + 11)


class Holder:
    """A holder that answers by the rules, except where a test changes it."""

    def __init__(self, data: bytes) -> None:
        self.chunks = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
        self.hashes = [hashlib.sha256(chunk).digest() for chunk in self.chunks]
        self.size = len(data)
        self.sent: list[int] = []  # Numbers of the chunks it was asked for.
        self.stop_at: int | None = None  # Breaks off before this chunk,
        self.hang_at: int | None = None  # or says nothing more.

    async def serve(self, peer: PeerId, stream) -> None:
        while frame := await read_frame_or_end(stream, peer, 128):
            match decode_request(peer, frame):
                case ListRequest():
                    await send_frame(stream, encode_reply(Reply(ReplyStatus.HERE, self.size)))
                    await send_frame(stream, b"".join(self.hashes))
                case ChunkRequest(_, first, count):
                    await send_frame(stream, encode_reply(Reply(ReplyStatus.HERE, self.size)))
                    for number in range(first, first + count):
                        await self.send(stream, number)

    async def send(self, stream, number: int) -> None:
        if number == self.stop_at:
            raise PeerUnreachable("killed")
        if number == self.hang_at:
            await trio.sleep_forever()
        self.sent.append(number)
        await send_frame(stream, self.chunks[number])


@pytest.fixture
async def blobs(open_blobs):
    return await open_blobs("fetcher")


def leftovers(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "fetcher" / "incoming").iterdir())


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 5 * MIB + 11])
async def test_from_one_blob_folder_to_another(open_blobs, blobs, peers, size) -> None:
    theirs = await open_blobs("holder")
    ref = await theirs.put_bytes(DATA[:size], "output")
    peers.handlers[HOLDER] = BlobServer(theirs).serve
    told: list[tuple[int, int]] = []
    fetcher = BlobFetcher(blobs, peers.ways)
    got = await fetcher.fetch(
        ref.digest, [HOLDER], "input", 8 * MIB, lambda *done: told.append(done)
    )
    assert got == ref
    assert await blobs.read(ref.digest, 8 * MIB) == DATA[:size]
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    await fetcher.fetch(ref.digest, [], "input", 8 * MIB)  # Here: nobody is asked.
    assert peers.opened == [HOLDER]


async def test_it_goes_on_where_the_holder_died(tmp_path: Path, blobs, peers) -> None:
    holder = Holder(DATA)
    holder.stop_at = 3
    peers.handlers[HOLDER] = holder.serve
    fetcher = BlobFetcher(blobs, peers.ways)
    with pytest.raises(BlobUnavailable, match="holder: the stream"):
        await fetcher.fetch(digest_of(DATA), [HOLDER], "input", 8 * MIB)
    assert blobs.used_bytes() == 3 * MIB  # Kept, and counted.
    other = Holder(DATA)
    peers.handlers[OTHER] = other.serve
    await fetcher.fetch(digest_of(DATA), [HOLDER, OTHER], "input", 8 * MIB)
    assert other.sent == [3, 4, 5]
    assert not leftovers(tmp_path)


async def test_it_goes_on_where_we_died(tmp_path: Path, open_blobs, blobs, peers) -> None:
    holder = Holder(DATA)
    holder.hang_at = 4
    peers.handlers[HOLDER] = holder.serve
    with trio.CancelScope() as life:
        await BlobFetcher(blobs, peers.ways).fetch(
            digest_of(DATA),
            [HOLDER],
            "input",
            8 * MIB,
            lambda done, _: life.cancel() if done == 4 * MIB else None,
        )
    assert life.cancelled_caught
    (partial,) = leftovers(tmp_path)
    with partial.open("ab") as file:
        file.write(b"torn by the power cut")
    reborn = await open_blobs("fetcher")
    holder.sent, holder.hang_at = [], None
    await BlobFetcher(reborn, peers.ways).fetch(digest_of(DATA), [HOLDER], "input", 8 * MIB)
    assert holder.sent == [4, 5]
    assert await reborn.read(digest_of(DATA), 8 * MIB) == DATA


async def test_a_liar_is_blamed_and_the_next_is_asked(tmp_path: Path, blobs, peers) -> None:
    """The liar's chunks agree with its list, and the list is of something else."""
    peers.handlers[LIAR] = Holder(b"x" * len(DATA)).serve
    peers.handlers[HOLDER] = Holder(DATA).serve
    blamed = []
    fetcher = BlobFetcher(blobs, peers.ways, blamed.append)
    with pytest.raises(BlobUnavailable, match="liar: its chunk list does not match"):
        await fetcher.fetch(digest_of(DATA), [LIAR], "input", 8 * MIB)
    assert not leftovers(tmp_path)
    assert blobs.used_bytes() == 0
    await fetcher.fetch(digest_of(DATA), [LIAR, HOLDER], "input", 8 * MIB)
    assert await blobs.read(digest_of(DATA), 8 * MIB) == DATA
    assert [(type(fault), fault.peer) for fault in blamed] == [(RuleBroken, LIAR)] * 2


async def test_a_wrong_chunk_is_noticed_when_it_arrives(blobs, peers) -> None:
    liar, honest = Holder(DATA), Holder(DATA)
    liar.chunks[2] = bytes(CHUNK)
    peers.handlers |= {LIAR: liar.serve, HOLDER: honest.serve}
    blamed = []
    fetcher = BlobFetcher(blobs, peers.ways, blamed.append)
    await fetcher.fetch(digest_of(DATA), [LIAR, HOLDER], "input", 8 * MIB)
    assert "chunk 2 is not what its list says" in blamed[0].why
    assert honest.sent == [2, 3, 4, 5]


@pytest.mark.parametrize("chunk", [b"", b"short", bytes(CHUNK + 1)])
async def test_a_chunk_of_the_wrong_size_is_a_fault(blobs, peers, chunk) -> None:
    liar = Holder(DATA)
    liar.chunks[0] = chunk
    peers.handlers[LIAR] = liar.serve
    blamed = []
    with pytest.raises(BlobUnavailable, match="liar: a frame of"):
        await BlobFetcher(blobs, peers.ways, blamed.append).fetch(
            digest_of(DATA), [LIAR], "input", 8 * MIB
        )
    assert [fault.peer for fault in blamed] == [LIAR]


async def test_a_short_list_is_a_fault(blobs, peers) -> None:
    liar = Holder(DATA)
    liar.hashes.pop()
    peers.handlers[LIAR] = liar.serve
    with pytest.raises(BlobUnavailable, match="160 bytes instead of 192"):
        await BlobFetcher(blobs, peers.ways).fetch(digest_of(DATA), [LIAR], "input", 8 * MIB)


async def test_a_size_claim_is_checked_before_anything_is_written(
    tmp_path: Path, blobs, peers
) -> None:
    liar = Holder(DATA)
    liar.size = 2**40
    peers.handlers[LIAR] = liar.serve
    fetcher = BlobFetcher(blobs, peers.ways)
    with pytest.raises(BlobUnavailable, match="over the allowed 8388608"):
        await fetcher.fetch(digest_of(DATA), [LIAR], "input", 8 * MIB)
    assert not leftovers(tmp_path)
    here = await blobs.put_bytes(DATA, "input")
    with pytest.raises(BlobUnavailable, match="over 10"):
        await fetcher.fetch(here.digest, [], "input", 10)


@pytest.mark.parametrize("hang_at", [0, 3])
async def test_a_hung_holder_costs_bounded_time(blobs, peers, hang_at: int) -> None:
    """On the real clock: a mock clock would jump while a worker thread writes."""
    hung, honest = Holder(DATA), Holder(DATA)
    hung.hang_at = hang_at
    peers.handlers |= {OTHER: hung.serve, HOLDER: honest.serve}
    fetcher = BlobFetcher(blobs, peers.ways, patience_s=0.5)
    with trio.fail_after(10):
        await fetcher.fetch(digest_of(DATA), [OTHER, HOLDER], "input", 8 * MIB)
    assert honest.sent == list(range(hang_at, 6))


async def test_nothing_answers_for_ever(blobs, autojump_clock) -> None:
    async def hang(_peer, _protocol):
        await trio.sleep_forever()

    with trio.fail_after(31), pytest.raises(BlobUnavailable, match="did not answer within 30 s"):
        await BlobFetcher(blobs, Ways(hang)).fetch(digest_of(DATA), [HOLDER], "input", 1)


async def test_absent_busy_and_unreachable_holders(open_blobs, blobs, peers) -> None:
    async def busy(_peer, stream) -> None:
        await send_frame(stream, encode_reply(Reply(ReplyStatus.BUSY)))

    peers.handlers[HOLDER] = BlobServer(await open_blobs("holder")).serve
    peers.handlers[OTHER] = busy
    with pytest.raises(BlobUnavailable) as caught:
        await BlobFetcher(blobs, peers.ways).fetch(
            digest_of(DATA), [HOLDER, OTHER, LIAR, LIAR, LIAR], "input", 1
        )
    line = str(caught.value)
    assert line.startswith("blob sha256:")
    assert "holder: does not have it" in line
    assert "other: is busy" in line
    assert "liar: no address answers; and 2 more" in line
    with pytest.raises(BlobUnavailable, match="no holder is known"):
        await BlobFetcher(blobs, peers.ways).fetch(digest_of(DATA), [], "input", 1)


async def test_no_room_is_ours_to_solve(open_blobs, peers, tmp_path: Path) -> None:
    blobs = await open_blobs("fetcher", budget_mib=3)
    peers.handlers |= {HOLDER: Holder(DATA).serve, OTHER: Holder(DATA).serve}
    with pytest.raises(StorageFull):
        await BlobFetcher(blobs, peers.ways).fetch(
            digest_of(DATA), [HOLDER, OTHER], "input", 8 * MIB
        )
    assert peers.opened == [HOLDER]
    assert not leftovers(tmp_path)


async def test_two_who_want_the_same_share_one_transfer(blobs, peers) -> None:
    holder = Holder(DATA)
    peers.handlers[HOLDER] = holder.serve
    fetcher = BlobFetcher(blobs, peers.ways)
    heard: list[list[int]] = [[], []]
    async with trio.open_nursery() as nursery:
        for ears in heard:
            nursery.start_soon(
                fetcher.fetch,
                digest_of(DATA),
                [HOLDER],
                "input",
                8 * MIB,
                lambda done, _, ears=ears: ears.append(done),
            )
    assert holder.sent == list(range(6))
    assert heard[0] == heard[1]
    assert not fetcher._transfers


async def test_the_second_takes_over_when_the_first_gives_up(blobs, peers) -> None:
    holder = Holder(DATA)
    peers.handlers[HOLDER] = holder.serve
    fetcher = BlobFetcher(blobs, peers.ways)

    async def first() -> None:
        with trio.CancelScope() as scope:
            await fetcher.fetch(
                digest_of(DATA), [HOLDER], "input", 8 * MIB, lambda *_: scope.cancel()
            )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        nursery.start_soon(fetcher.fetch, digest_of(DATA), [HOLDER], "input", 8 * MIB)
    assert await blobs.read(digest_of(DATA), 8 * MIB) == DATA


# --- many at a time -----------------------------------------------------------------------


async def many_of(theirs: Blobs, count: int) -> list[BlobRef]:
    return [await theirs.put_bytes(b"%d" % number, "output") for number in range(count)]


async def test_many_small_blobs_take_hardly_more_round_trips_than_one(
    open_blobs, blobs, peers
) -> None:
    theirs = await open_blobs("holder")
    refs = await many_of(theirs, 150)
    refs += [await theirs.put_bytes(data, "output") for data in (b"", DATA, DATA[: 2 * MIB])]
    peers.handlers[HOLDER] = BlobServer(theirs).serve
    await blobs.put_bytes(b"7", "image")
    told: list[int] = []
    source = Holding(HOLDER, "output", "job")
    await BlobFetcher(blobs, peers.ways).fetch_all([*refs, *refs], source, told.append)
    assert [await blobs.read(ref.digest, 2**30) for ref in refs] == [
        await theirs.read(ref.digest, 2**30) for ref in refs
    ]
    assert len(peers.opened) == 3  # One for each large one.
    assert blobs._pins["job"] == {ref.digest for ref in refs}
    assert told == sorted(told)
    assert told[-1] == 2 * sum(ref.size for ref in refs)
    await BlobFetcher(blobs, peers.ways).fetch_all(refs, source)
    assert len(peers.opened) == 3


async def test_requests_do_not_wait_for_answers(open_blobs, blobs, peers) -> None:
    theirs = await open_blobs("holder")
    refs = await many_of(theirs, 20)
    asked: list[Digest] = []

    async def late(peer: PeerId, stream) -> None:
        """Answer when all was asked for, as if the way were long."""
        while len(asked) < len(refs):
            asked.append(decode_request(peer, await read_frame(stream, peer, 128)).digest)
        for digest in asked:
            data = await theirs.read(digest)
            await send_frame(stream, encode_reply(Reply(ReplyStatus.HERE, len(data))))
            await send_frame(stream, data)

    peers.handlers[HOLDER] = late
    with trio.fail_after(15):
        fetcher = BlobFetcher(blobs, peers.ways)
        await fetcher.fetch_all(refs, Holding(HOLDER, "output", "job"))
    assert asked == [ref.digest for ref in refs]


@pytest.mark.parametrize("data", [b"", b"right"])
async def test_small_bytes_that_are_others_are_a_fault(blobs, peers, data: bytes) -> None:
    faults: list[RuleBroken] = []
    peers.handlers[HOLDER] = Holder(b"wrong").serve
    fetcher = BlobFetcher(blobs, peers.ways, blame=faults.append)
    ref = BlobRef(digest_of(b"right"), len(data))
    with pytest.raises(BlobUnavailable, match="its bytes do not match"):
        await fetcher.fetch_all([ref], Holding(HOLDER, "output", "job"))
    assert [fault.peer for fault in faults] == [HOLDER]
    assert blobs.used_bytes() == 0


@pytest.mark.parametrize("size", [3, 2 * MIB])
@pytest.mark.parametrize("here", [False, True])
async def test_a_blob_of_another_size_than_was_said(
    open_blobs, blobs, peers, size: int, here: bool
) -> None:
    theirs = await open_blobs("holder")
    ref = await (blobs if here else theirs).put_bytes(DATA[:size], "output")
    peers.handlers[HOLDER] = BlobServer(theirs).serve
    wrong = BlobRef(ref.digest, size + 1)
    with pytest.raises(BlobUnavailable, match=f"has {size} bytes instead of {size + 1}"):
        await BlobFetcher(blobs, peers.ways).fetch_all([wrong], Holding(HOLDER, "output", "job"))


async def test_what_was_fetched_before_a_failure_stays(
    open_blobs, blobs, peers, monkeypatch
) -> None:
    monkeypatch.setattr("node.data.transfer.BATCH_MAX", AHEAD_MAX)
    theirs = await open_blobs("holder")
    refs = await many_of(theirs, AHEAD_MAX + 1)
    await theirs.drop(refs[-1].digest)
    peers.handlers[HOLDER] = BlobServer(theirs).serve
    with pytest.raises(BlobUnavailable, match="does not have it"):
        fetcher = BlobFetcher(blobs, peers.ways)
        await fetcher.fetch_all(refs, Holding(HOLDER, "output", "job"))
    assert len(blobs.of_kind("output")) == AHEAD_MAX


async def test_small_blobs_that_find_no_room(open_blobs, peers) -> None:
    theirs, ours = await open_blobs("holder"), await open_blobs("ours", budget_mib=1)
    ours.pin("user", (await ours.put_bytes(bytes(MIB), "input")).digest)
    refs = await many_of(theirs, 2)
    with pytest.raises(StorageFull):
        await BlobFetcher(ours, peers.ways).fetch_all(refs, Holding(HOLDER, "output", "job"))
    assert peers.opened == []
