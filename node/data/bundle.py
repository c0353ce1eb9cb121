"""A bundle: the bytes of many small outputs in one blob, one file after another.

Each blob costs a request, a file and a row of the index on both sides. A bundle costs them once.

Spec: specs/execution.md#bundle.
"""

from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import trio

from node.data.disk import CHUNK, open_regular
from protocol.values.errors import InvalidRequest
from protocol.values.ids import Digest, digest_of
from protocol.wire.job import Outputs

PIECE_BYTES: Final = 256 * 1024


class BundleReader:
    """A file with the bytes of many others as a source that knows the digest of each."""

    def __init__(self, path: Path, sizes: Sequence[int]) -> None:
        """Prepare to read the file; `sizes` are those of its parts, none above `CHUNK`."""
        self.digests: list[Digest] = []
        """Those of the parts that were read."""
        self._parts = self._read_parts(path, sizes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._parts.close()

    def read(self, _size: int, /) -> bytes:
        """Return the next parts, none at the end; InvalidRequest if they are not there."""
        return next(self._parts, b"")

    def _read_parts(self, path: Path, sizes: Sequence[int]) -> Generator[bytes, None, None]:
        waiting: list[bytes] = []
        count = 0
        with open_regular(path) as file:
            for size in sizes:
                data = file.read(size)
                if len(data) < size:
                    raise InvalidRequest("the bundle of the outputs is too short")
                self.digests.append(digest_of(data))
                waiting.append(data)
                count += size
                if count >= PIECE_BYTES:
                    yield b"".join(waiting)
                    waiting, count = [], 0
        if count:
            yield b"".join(waiting)


def bundle_fault(outputs: Outputs, path: Path) -> str:
    """Return why the bytes of a listing's bundle are not its files, "" if they are. It blocks.

    The listing keeps the rules.
    """
    with path.open("rb", CHUNK) as bundle:
        for file in outputs.files:
            if not file.bundled:
                continue
            trio.from_thread.check_cancelled()
            if digest_of(bundle.read(file.blob.size)) != file.blob.digest:
                return f"its bundle has other bytes than {file.path!r:.120}"
    return ""
