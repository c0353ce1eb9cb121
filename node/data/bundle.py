"""A bundle: the bytes of many small outputs in one blob, one file after another.

Each blob costs a request, a file and a row of the index on both sides. A bundle costs them once.

Spec: specs/execution.md#bundle.
"""

from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import trio

from node.data.disk import CHUNK
from protocol.values.errors import InvalidRequest
from protocol.values.ids import Digest, digest_of
from protocol.wire.job import Outputs

FILE_BYTES_MAX: Final = 64 * 1024
"""Larger files are blobs of their own."""
FILES_MIN: Final = 64
"""Fewer small files are blobs of their own: another job may then take one as its input."""


class BundleReader:
    """Small files, given with their sizes, as one source of bytes."""

    def __init__(self, files: Sequence[tuple[Path, int]]) -> None:
        """Prepare to read the files in this order."""
        self.digests: list[Digest] = []
        """Those of the files that were read."""
        self._contents = self._read_files(files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._contents.close()

    def read(self, size: int, /) -> bytes:
        """Return the next files as a whole, at most `size` bytes, none at the end.

        InvalidRequest if one cannot be read or has another size.
        """
        assert size >= FILE_BYTES_MAX
        parts: list[bytes] = []
        left = size - FILE_BYTES_MAX
        while left >= 0 and (data := next(self._contents, None)) is not None:
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def _read_files(self, files: Sequence[tuple[Path, int]]) -> Generator[bytes, None, None]:
        for path, size in files:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise InvalidRequest(f"cannot read {path}: {error.strerror}") from error
            if len(data) != size:
                raise InvalidRequest(f"{path} changed while it was read")
            self.digests.append(digest_of(data))
            yield data


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
