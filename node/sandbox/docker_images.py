"""The node's images in Docker Engine: each loaded once, under a name made of its digest.

Only the name is remembered, and looked up in the engine each time: an image that somebody removed
there is loaded again. The least recently used images are evicted.

The engine adds an image's config (variables, labels, volumes, health check) to what a container is
given. So an image with any such config is not the node's, whatever its name.

Spec: specs/sandbox.md#docker-driver.
"""

import io
import tarfile
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import docker.errors
import requests
import trio

from node.data.disk import is_short, no_room
from node.sandbox.docker_engine import DockerEngine
from node.sandbox.driver import ImageSource
from protocol.values.errors import SandboxUnavailable, StorageFull

REPOSITORY: Final = "mutirao"
IMAGES_MAX: Final = 16
"""The most images of jobs that the engine keeps, besides those that containers use."""
DIGEST_CHARACTERS: Final = 64


class DockerImages:
    """Images of jobs and the one of the self-test; `scratch` has room for an archive."""

    def __init__(self, engine: DockerEngine, scratch: Path, selftest: str, budget_mib: int) -> None:
        self._engine = engine
        self._scratch = scratch
        self._budget_mib = budget_mib
        self._selftest = f"{REPOSITORY}:{selftest}"
        self._used: OrderedDict[str, None] = OrderedDict()
        self._preparing = trio.Lock()
        self._loading = trio.CapacityLimiter(1)
        """Its token is held while the engine loads, even if nobody waits for the result."""

    async def have(self, image: ImageSource) -> str:
        """Return the engine's id of an image, loading it if the engine lacks it."""
        name = f"{REPOSITORY}:{image.digest.hex()}"
        self._note_use(name)
        found = await self._engine.ask(lambda: self._find(name))
        if found is not None:
            return found
        async with self._preparing:  # Two leases of one image load it once.
            async with self._loading:
                pass  # An ended lease may have left this very image loading.
            return await self._load_missing(image, name)

    async def selftest_image(self, rootfs: Path) -> str:
        """Return the id of an image that is this folder, of folders and links alone."""
        return await self._engine.ask(lambda: self.import_selftest(rootfs))

    async def remove_selftest_image(self) -> None:
        """Remove that image."""
        await self._engine.ask(lambda: self._remove(self._selftest))

    async def _load_missing(self, image: ImageSource, name: str) -> str:
        found = await self._engine.ask(lambda: self._find(name))
        if found is not None:
            return found
        try:
            with tempfile.TemporaryDirectory(prefix="loading-", dir=self._scratch) as folder:
                archive = Path(folder) / "image.tar"
                size = await image.archive(archive)
                await self._engine.ask(lambda: self._make_room(size))
                loaded = await self._engine.ask(
                    lambda: self._load(archive, name), leave=self._loading
                )
        except OSError as fault:
            why = f"cannot write the image's archive to {self._scratch}: {fault.strerror}"
            raise SandboxUnavailable(why) from fault
        return loaded

    def _note_use(self, name: str) -> None:
        self._used[name] = None
        self._used.move_to_end(name)

    def _find(self, name: str) -> str | None:
        """Return the id of this node's image of this name, None if there is none."""
        try:
            found = self._engine.client().images.get(name)
        except docker.errors.ImageNotFound:
            return None
        return str(found.id) if _says_nothing(found) else None

    def _load(self, archive: Path, name: str) -> str:
        """Load the archive and name its image after our digest."""
        self._remove(name)  # There may be one that is not ours.
        engine = self._engine.patient_client()
        try:
            with archive.open("rb") as file:
                images = engine.images.load(file)
            if len(images) != 1:
                raise SandboxUnavailable(f"the archive holds {len(images)} images instead of one")
            if not _says_nothing(images[0]):
                raise SandboxUnavailable("the archive's image has a config")
            images[0].tag(*name.split(":"))
            return str(images[0].id)
        finally:
            engine.close()

    def _make_room(self, size: int) -> None:
        """Evict images, the least recently used first, until one more of `size` bytes fits.

        StorageFull if what containers use leaves no room for its bytes.
        """
        place = {name: number for number, name in enumerate(self._used, 1)}
        for name in sorted(self._sizes(), key=lambda name: place.get(name, 0)):
            if len(self._sizes()) < IMAGES_MAX and not self._lack(size):
                break
            self._remove(name)
            self._used.pop(name, None)
        if lack := self._lack(size):
            raise StorageFull(lack)

    def _sizes(self) -> dict[str, int]:
        """Return the images of jobs with their sizes in bytes, whoever loaded them."""
        found = self._engine.client().images.list(REPOSITORY)
        return {name: image.attrs["Size"]
                for image in found for name in image.tags if _is_of_a_job(name)}  # fmt: skip

    def _lack(self, size: int) -> str:
        """Return "", or why there is no room for so many bytes more."""
        if sum(self._sizes().values()) + size > self._budget_mib * 1024**2:
            return no_room(self._budget_mib)
        root = Path(self._engine.client().info()["DockerRootDir"])
        # It may be invisible to us: the engine may run in a container of its own.
        if root.is_dir() and is_short(root, size):
            return "the engine's disk is too full to unpack the image"
        return ""

    def _remove(self, name: str) -> None:
        """Remove the name, and with it the image unless a container uses it."""
        try:
            self._engine.client().images.remove(name)
        except docker.errors.ImageNotFound:
            return
        except docker.errors.APIError as fault:
            if fault.status_code != requests.codes.conflict:
                raise

    def import_selftest(self, rootfs: Path) -> str:
        """Import an image under the self-test's name, if the engine has none. It blocks."""
        known = self._find(self._selftest)
        if known is not None:
            return known
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(rootfs, ".", filter=_as_root)
        repository, tag = self._selftest.split(":")
        engine = self._engine.client()
        engine.api.import_image_from_data(buffer.getvalue(), repository=repository, tag=tag)
        return str(engine.images.get(self._selftest).id)


def _says_nothing(image: Any) -> bool:
    """Return whether the engine's image consists of its files alone."""
    return not any((image.attrs.get("Config") or {}).values())


def _is_of_a_job(name: str) -> bool:
    return len(name) == len(f"{REPOSITORY}:") + DIGEST_CHARACTERS


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make root the owner of an entry, and let everybody read it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755
    return entry
