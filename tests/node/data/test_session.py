"""What a fetcher makes of a holder's answers; test_transfer.py has the whole of it.

Spec: specs/data.md#transfer.
"""

import pytest

from node.data.frames import Reply, ReplyStatus, encode_reply, read_frame, send_frame
from node.data.session import Session, Wanted, named
from node.data.throttle import Throttle
from protocol.values.errors import BlobUnavailable, MalformedMessage, StorageFull
from protocol.values.ids import Digest, PeerId
from tests.node.memory_stream import memory_streams

HOLDER = PeerId("holder")
WANTED = Wanted(Digest(bytes(range(32))), "input", 1000)


@pytest.mark.parametrize(
    "answer, error, why",
    [
        (encode_reply(Reply(ReplyStatus.ABSENT)), BlobUnavailable, "does not have it"),
        (encode_reply(Reply(ReplyStatus.BUSY)), BlobUnavailable, "is busy"),
        (encode_reply(Reply(ReplyStatus.HERE, 1001)), BlobUnavailable, "over the allowed 1000"),
        (encode_reply(Reply(ReplyStatus.HERE, 900)), StorageFull, "do not fit"),
        (b"nonsense", MalformedMessage, "canonical"),
    ],
)
async def test_an_answer_that_is_no_list(answer: bytes, error, why: str) -> None:
    theirs, ours = memory_streams(PeerId("fetcher"), HOLDER)
    await send_frame(theirs, answer)
    with pytest.raises(error, match=why):
        await Session(ours, HOLDER, Throttle(0), 10).chunk_list(WANTED, lambda size: size < 900)
    assert await read_frame(theirs, HOLDER, 128)


def test_a_blob_is_named_by_the_beginning_of_its_digest() -> None:
    assert str(WANTED) == named(WANTED.digest) == "blob sha256:000102030405"
