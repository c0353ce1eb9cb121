"""The files of the blob folder: which are blobs, and which are interrupted transfers.

Spec: specs/data.md#on-disk.
"""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from protocol.values.ids import Digest

PARTIAL: Final = ".partial"
PARTIAL_KEPT_S: Final = 7 * 24 * 3600
"""An interrupted transfer that was not resumed for a week is removed at the start."""


def unlink_all(paths: Sequence[Path]) -> None:
    """Remove files, if they are there."""
    for path in paths:
        path.unlink(missing_ok=True)


def blob_files(folder: Path) -> Iterator[tuple[Digest, os.stat_result]]:
    """Yield the blobs of a folder; files with other names are not ours and stay."""
    for path in folder.glob("[0-9a-f][0-9a-f]/*"):
        digest = _digest_of_name(path.name)
        status = path.lstat()
        if (
            digest is not None
            and stat.S_ISREG(status.st_mode)
            and path.name[:2] == path.parent.name
        ):
            yield digest, status


def partial_files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the interrupted transfers to keep, and remove all other incomplete files."""
    for path in folder.iterdir():
        status = path.lstat()
        fresh = time.time() - status.st_mtime < PARTIAL_KEPT_S
        if path.suffix == PARTIAL and _digest_of_name(path.stem) is not None and fresh:
            yield path, status
        elif path.suffix in {PARTIAL, ".tmp"}:
            path.unlink()


def _digest_of_name(name: str) -> Digest | None:
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        return None
    return Digest(bytes.fromhex(name))
