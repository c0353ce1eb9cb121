"""The unpacked images of strangers' jobs: within a budget, the least recently used are evicted.

An image that a lease uses is never evicted. The size of an image is counted while it is unpacked,
so that it is refused before it fills the disk.

Spec: specs/execution.md#unpacked-images.
"""

import logging
import os
import re
import secrets
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from node.data.disk import is_short, no_room
from node.data.images import Images
from node.data.layers import ENTRY_BYTES, STEP_BYTES, Allowance
from protocol.values.errors import StorageFull
from protocol.values.ids import Digest, LeaseId

LOG: Final = logging.getLogger(__name__)
ROOT_NAME: Final = re.compile("[0-9a-f]{64}")
LEAVING: Final = "leaving-"
"""The prefix of folders that are being removed."""
UNPACKING: Final = ".unpacking"
"""The suffix of folders that `unpack` has not finished."""


class ImageCache:
    """The unpacked images below `folder`, which nobody else uses; `budget_mib` bounds them."""

    def __init__(self, folder: Path, images: Images, budget_mib: int) -> None:
        self._folder = folder
        self._images = images
        self._budget_mib = budget_mib
        self._sizes: dict[Digest, int] = {}  # The least recently used first.
        self._unpacking = 0  # Bytes of images that are being unpacked.
        self._pins: dict[LeaseId, Digest] = {}
        self._reconciling = trio.Lock()
        self._is_reconciled = False

    def path(self, image: Digest) -> Path:
        """Return the path of an image's root, which may not exist."""
        return self._folder / image.hex()

    def pin(self, lease_id: LeaseId, image: Digest) -> None:
        """Protect an image, unpacked or not, from eviction until `unpin`."""
        self._pins[lease_id] = image

    def unpin(self, lease_id: LeaseId) -> None:
        """Release the image of a lease, if it has one."""
        self._pins.pop(lease_id, None)

    async def reconcile(self) -> None:
        """Read the images from the disk, and remove unfinished ones. Only the first call acts."""
        async with self._reconciling:
            if not self._is_reconciled:
                self._sizes = await trio.to_thread.run_sync(_look, self._folder)
                self._is_reconciled = True

    async def unpack(self, image: Digest, bytes_max: int) -> Path:
        """Return the root of an image that unpacks to at most `bytes_max`, unpacked once.

        While it grows, images that no lease uses are evicted. StorageFull if that is not enough;
        otherwise it raises what `Images.unpack` raises.
        """
        await self.reconcile()
        root = self.path(image)
        if image in self._sizes and root.exists():
            os.utime(root)
            self._sizes[image] = self._sizes.pop(image)  # Now the most recently used.
            return root

        unpacked = 0

        async def grow(count: int) -> None:
            nonlocal unpacked
            unpacked += count
            self._unpacking += count
            if lack := await self.sweep():
                raise StorageFull(lack)

        allowance = Allowance(bytes_max, grow=lambda count: trio.from_thread.run(grow, count))
        try:
            await grow(0)
            await self._images.unpack(image, self._folder, allowance)
            with trio.CancelScope(shield=True):  # What is unpacked must be counted.
                self._sizes[image] = await trio.to_thread.run_sync(_size_of, root)
        finally:
            self._unpacking -= unpacked
        return root

    async def sweep(self) -> str:
        """Evict images that no lease uses until the budget and the disk suffice.

        Return "", or which of them is still insufficient.
        """
        while lack := self._lack():
            in_use = set(self._pins.values())
            idle = next((image for image in self._sizes if image not in in_use), None)
            if idle is None:
                return lack
            LOG.info("removing the unpacked image %s", idle.hex()[:12])
            del self._sizes[idle]
            # After the rename nobody finds it: a later lease unpacks the image again.
            leaving = self._folder / f"{LEAVING}{secrets.token_hex(8)}"
            with suppress(FileNotFoundError):  # The owner may have removed it.
                self.path(idle).rename(leaving)
            await trio.to_thread.run_sync(_remove, leaving)
        return ""

    def _lack(self) -> str:
        """Return "", or why budget or disk are insufficient."""
        used = sum(self._sizes.values()) + self._unpacking
        if used > self._budget_mib * 1024**2:
            return no_room(self._budget_mib)
        if is_short(self._folder, STEP_BYTES):
            return "the disk is too full to unpack the image"
        return ""


def _look(folder: Path) -> dict[Digest, int]:
    """Return the size of each root, least recently used first; remove unfinished folders."""
    for path in folder.iterdir():
        if path.name.startswith(LEAVING) or path.name.endswith(UNPACKING):
            _remove(path)
    roots = [path for path in folder.iterdir() if ROOT_NAME.fullmatch(path.name)]
    roots.sort(key=lambda path: path.stat().st_mtime_ns)
    return {Digest(bytes.fromhex(path.name)): _size_of(path) for path in roots}


def _size_of(root: Path) -> int:
    """Return the counted size of an unpacked image: at most what was counted while unpacking."""
    linked: set[int] = set()
    size = 0
    for _, folders, files, handle in os.fwalk(root):  # By descriptors: paths may be too long.
        for name in (*folders, *files):
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            size += ENTRY_BYTES
            if stat.S_ISREG(status.st_mode) and status.st_ino not in linked:
                size += status.st_size
            if status.st_nlink > 1:
                linked.add(status.st_ino)
    return size


def _remove(folder: Path) -> None:
    """Remove a folder; the next start of the node removes what is left."""
    shutil.rmtree(folder, ignore_errors=True)
