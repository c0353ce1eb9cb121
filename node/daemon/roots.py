"""Unpacked images: those that nobody uses make room for others, the least recently used first.

Without this, every image that a stranger's job ever named would stay on our disk, unpacked.
Spec: specs/execution.md#executions.
"""

import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from protocol.values.ids import Digest

LOG: Final = logging.getLogger(__name__)
ROOTS_MAX: Final = 16
"""Unpacked images that are kept."""
FREE_BYTES_MIN: Final = 2 * 1024**3
"""With less than this on the disk none is kept that is not in use."""
ROOT_NAME: Final = re.compile("[0-9a-f]{64}")
LEAVING: Final = "leaving-"
"""Begins the name of what is being removed."""


def note_use(root: Path) -> None:
    """Let an unpacked image count as used now."""
    if root.exists():
        os.utime(root)


async def sweep_roots(folder: Path, is_used: Callable[[Digest], bool]) -> None:
    """Remove unpacked images that are too many, but none that is used at that moment."""
    for leftover in _leaving(folder):
        await _remove(leftover)
    for root in _oldest_first(folder):
        if not _is_crowded(folder):
            return
        if is_used(Digest(bytes.fromhex(root.name))):
            continue
        # From here on nobody finds it, and who needs the image unpacks it again.
        leaving = folder / f"{LEAVING}{secrets.token_hex(8)}"
        root.rename(leaving)
        LOG.info("removing the unpacked image %s", root.name[:12])
        await _remove(leaving)


def _is_crowded(folder: Path) -> bool:
    few = shutil.disk_usage(folder).free < FREE_BYTES_MIN
    return few or len(_oldest_first(folder)) > ROOTS_MAX


def _leaving(folder: Path) -> list[Path]:
    return list(folder.glob(f"{LEAVING}*"))


def _oldest_first(folder: Path) -> list[Path]:
    roots = [path for path in folder.iterdir() if ROOT_NAME.fullmatch(path.name)]
    return sorted(roots, key=lambda path: path.stat().st_mtime_ns)


async def _remove(folder: Path) -> None:
    # What cannot be removed now is tried again at the next sweep.
    await trio.to_thread.run_sync(_remove_tree, folder)


def _remove_tree(folder: Path) -> None:
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o700)  # An image may forbid its owner to write.
    shutil.rmtree(folder, ignore_errors=True)
