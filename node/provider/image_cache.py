"""The unpacked images and input folders of strangers' jobs, within a budget.

The least recently used are evicted, but none that a lease uses. The size is counted while it is
unpacked, so that what does not fit is refused before it fills the disk.

Spec: specs/execution.md#unpacked-images.
"""

import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from node.data.disk import is_short, no_room
from node.data.images import Images
from node.data.layers import ENTRY_BYTES, STEP_BYTES, Allowance
from node.data.pack_reader import unpack_pack
from protocol.values.errors import BlobUnavailable, StorageFull
from protocol.values.ids import Digest, LeaseId

LOG: Final = logging.getLogger(__name__)
ROOT_NAME: Final = re.compile(r"[0-9a-f]{64}(\.pack)?")
PACK: Final = ".pack"
"""The suffix of folders from packs: an image is never taken for one."""
LEAVING: Final = "leaving-"
"""The prefix of folders that are being removed."""
UNPACKING: Final = ".unpacking"
"""The suffix of folders that `unpack` has not finished."""


class ImageCache:
    """The unpacked images and packs below `folder`, which is its own; `budget_mib` bounds them."""

    def __init__(self, folder: Path, images: Images, budget_mib: int) -> None:
        self._folder = folder
        self._images = images
        self._budget_mib = budget_mib
        self._sizes: dict[str, int] = {}  # By folder; the least recently used first.
        self._unpacking = 0  # Bytes that are being unpacked.
        self._pins: dict[LeaseId, frozenset[str]] = {}
        self._locks: dict[Digest, trio.Lock] = {}  # Of packs that are being unpacked.
        self._reconciling = trio.Lock()
        self._is_reconciled = False

    def path(self, image: Digest) -> Path:
        """Return the path of an image's root, which may not exist."""
        return self._folder / image.hex()

    def unpacked(self) -> list[Digest]:
        """Return the images that are unpacked here, the most recently used first."""
        names = (name for name in reversed(self._sizes) if not name.endswith(PACK))
        return [Digest(bytes.fromhex(name)) for name in names]

    def pin(self, lease_id: LeaseId, image: Digest, *packs: Digest) -> None:
        """Protect an image and packs, unpacked or not, from eviction until `unpin`."""
        names = (f"{pack.hex()}{PACK}" for pack in packs)
        self._pins[lease_id] = frozenset((image.hex(), *names))

    def unpin(self, lease_id: LeaseId) -> None:
        """Release what a lease uses, if there is anything."""
        self._pins.pop(lease_id, None)

    async def reconcile(self) -> None:
        """Read the folders from the disk, and remove unfinished ones. Only the first call acts."""
        async with self._reconciling:
            if not self._is_reconciled:
                self._sizes = await trio.to_thread.run_sync(_look, self._folder)
                self._is_reconciled = True

    async def unpack(self, image: Digest, bytes_max: int) -> Path:
        """Return the root of an image that unpacks to at most `bytes_max`, unpacked once.

        While it grows, what no lease uses is evicted. StorageFull if that is not enough; otherwise
        it raises what `Images.unpack` raises.
        """
        action = partial(self._images.unpack, image, self._folder)
        return await self._have(image.hex(), Allowance(bytes_max), action)

    async def unpack_pack(self, pack: Digest) -> Path:
        """Return the folder of a pack, unpacked once; bounded by the budget and its own size.

        BlobUnavailable if the pack is not here, InvalidRequest if it is broken or hostile,
        StorageFull as of `unpack`.
        """
        lock = self._locks.setdefault(pack, trio.Lock())
        async with lock:
            try:
                action = partial(self._unpack_pack, pack)
                return await self._have(f"{pack.hex()}{PACK}", Allowance(what="the pack"), action)
            finally:
                if not lock.statistics().tasks_waiting:
                    del self._locks[pack]

    async def _unpack_pack(self, pack: Digest, allowance: Allowance) -> None:
        blob = self._images.blobs.path(pack)
        if blob is None:
            raise BlobUnavailable(f"the pack sha256:{pack.hex()[:12]} is no longer stored here")
        target = self._folder / f"{pack.hex()}{PACK}"
        await trio.to_thread.run_sync(unpack_pack, pack, blob, target, allowance)

    async def _have(
        self, name: str, allowance: Allowance, action: Callable[[Allowance], Awaitable[object]]
    ) -> Path:
        """Return the folder of this name; if it is not there, `action` makes it."""
        await self.reconcile()
        root = self._folder / name
        if name in self._sizes and root.exists():
            os.utime(root)
            self._sizes[name] = self._sizes.pop(name)  # Now the most recently used.
            return root

        unpacked = 0

        async def grow(count: int) -> None:
            nonlocal unpacked
            unpacked += count
            self._unpacking += count
            if lack := await self.sweep():
                raise StorageFull(lack)

        allowance.grow = lambda count: trio.from_thread.run(grow, count)
        try:
            await grow(0)
            await action(allowance)
            with trio.CancelScope(shield=True):  # What is unpacked must be counted.
                self._sizes[name] = await trio.to_thread.run_sync(_size_of, root)
        finally:
            self._unpacking -= unpacked
        return root

    async def sweep(self) -> str:
        """Evict what no lease uses until the budget and the disk suffice.

        Return "", or which of them is still insufficient.
        """
        while lack := self._lack():
            in_use = frozenset[str]().union(*self._pins.values())
            idle = next((name for name in self._sizes if name not in in_use), None)
            if idle is None:
                return lack
            LOG.info("removing the unpacked %.12s", idle)
            del self._sizes[idle]
            # After the rename nobody finds it: a later lease unpacks it again.
            leaving = self._folder / f"{LEAVING}{secrets.token_hex(8)}"
            with suppress(FileNotFoundError):  # The owner may have removed it.
                (self._folder / idle).rename(leaving)
            await trio.to_thread.run_sync(_remove, leaving)
        return ""

    def _lack(self) -> str:
        """Return "", or why budget or disk are insufficient."""
        used = sum(self._sizes.values()) + self._unpacking
        if used > self._budget_mib * 1024**2:
            return no_room(self._budget_mib)
        if is_short(self._folder, STEP_BYTES):
            return "the disk is too full to unpack the image or an input"
        return ""


def _look(folder: Path) -> dict[str, int]:
    """Return the size of each folder, least recently used first; remove unfinished ones."""
    for path in folder.iterdir():
        if path.name.startswith(LEAVING) or path.name.endswith(UNPACKING):
            _remove(path)
    roots = [path for path in folder.iterdir() if ROOT_NAME.fullmatch(path.name)]
    roots.sort(key=lambda path: path.stat().st_mtime_ns)
    return {path.name: _size_of(path) for path in roots}


def _size_of(root: Path) -> int:
    """Return the counted size of an unpacked folder: at most what was counted while unpacking."""
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
