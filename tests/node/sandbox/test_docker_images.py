"""Images in Docker Engine: loaded once, looked for each time, the oldest removed.

Most is tested on an engine of dicts; the last test needs a real one.
Spec: specs/sandbox.md#docker-driver.
"""

# ruff: noqa: ASYNC110, ASYNC240

import io
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace

import docker.errors
import pytest
import requests
import trio

from node.sandbox import docker_images
from node.sandbox.docker_engine import DockerEngine
from node.sandbox.docker_images import DockerImages
from protocol.values.errors import SandboxUnavailable, StorageFull
from protocol.values.ids import Digest, digest_of
from tests.node.sandbox.conftest import needs_engine


class Source:
    """An image of ours that is one small file, and counts how often it is asked for."""

    def __init__(self, content: bytes, size: int = 1) -> None:
        self.size = size
        self.digest: Digest = digest_of(content)
        self.name = f"mutirao:{self.digest.hex()}"
        self.content = content
        self.asked = 0
        self.paths: list[Path] = []

    async def unpack(self) -> Path:
        raise AssertionError("Docker needs no unpacked image")

    async def archive(self, path: Path) -> int:
        self.asked += 1
        self.paths.append(path)
        await trio.lowlevel.checkpoint()
        path.write_bytes(self.content)
        return self.size


class Shelf:
    """The engine's images: names and ids."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.in_use: set[str] = set()
        self.sizes: dict[str, int] = {}
        """Bytes that the images of some names take."""
        self.configs: dict[str, dict[str, object]] = {}
        """What the images of some names say of how they are run."""
        self.loaded: dict[str, object] = {"Env": None, "User": ""}
        """What those say that are loaded."""
        self.count = 1
        self.slow = threading.Event()
        """Not set: loading takes long."""
        self.slow.set()
        self.loading = self.most = 0
        """Loads at this moment, and the most there were."""

    def get(self, name):
        if name not in self.names:
            raise docker.errors.ImageNotFound(name)
        attrs = {"Config": self.configs.get(name), "Size": self.sizes.get(name, 1)}
        return SimpleNamespace(id=self.names[name], tags=[name], attrs=attrs)

    def load(self, file):
        self.loading += 1
        self.most = max(self.most, self.loading)
        self.slow.wait(60)
        self.loading -= 1
        number = f"sha256:{len(file.read())}-{len(self.names)}"
        found = SimpleNamespace(
            id=number,
            tag=lambda *parts: self.names.update({":".join(parts): number}),
            attrs={"Config": self.loaded},
        )
        return [found] * self.count

    def list(self, repository):
        return [self.get(name) for name in self.names if name.startswith(f"{repository}:")]

    def remove(self, name):
        if name in self.in_use:
            answer = requests.Response()
            answer.status_code = 409
            raise docker.errors.APIError("in use", answer)
        self.get(name)
        del self.names[name]
        self.configs.pop(name, None)


class ShelfEngine(DockerEngine):
    """An engine that is its images alone."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__()
        self._client = SimpleNamespace(
            images=shelf, close=lambda: None, info=lambda: {"DockerRootDir": "/nowhere"}
        )

    def patient_client(self):
        return self._client


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def images(shelf, tmp_path) -> DockerImages:
    return DockerImages(ShelfEngine(shelf), tmp_path, "selftest-x", 1024)


async def test_an_image_is_loaded_once_and_its_archive_removed(images, shelf, tmp_path):
    source = Source(b"a")
    first = await images.have(source)
    assert shelf.names == {source.name: first}
    assert await images.have(source) == first
    assert source.asked == 1
    assert list(tmp_path.iterdir()) == []
    assert source.paths[0].is_relative_to(tmp_path)


async def test_two_at_the_same_time_load_once(images):
    source = Source(b"a")
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(images.have, source)
    assert source.asked == 1


async def test_loads_that_nobody_waits_for_any_more_do_not_pile_up(images, shelf, tmp_path):
    shelf.slow.clear()
    first, second = Source(b"a"), Source(b"b")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(images.have, first)
            while not shelf.loading:
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        assert list(tmp_path.iterdir()) == []
        async with trio.open_nursery() as nursery:
            for source in (first, second):
                nursery.start_soon(images.have, source)
            while not images._loading.statistics().tasks_waiting:
                await trio.sleep(0.001)
            assert (first.asked, second.asked) == (1, 0)
            shelf.slow.set()
    assert set(shelf.names) == {first.name, second.name}
    assert (shelf.most, first.asked, second.asked) == (1, 1, 1)


async def test_an_image_that_somebody_removed_is_loaded_again(images, shelf):
    source = Source(b"a")
    await images.have(source)
    shelf.names.clear()
    await images.have(source)
    assert source.asked == 2


async def test_a_new_daemon_finds_what_the_old_one_loaded(images, shelf, tmp_path):
    source = Source(b"a")
    await images.have(source)
    again = DockerImages(ShelfEngine(shelf), tmp_path, "selftest-x", 1024)
    await again.have(source)
    assert source.asked == 1


async def test_an_archive_that_is_not_one_image_is_refused(images, shelf, tmp_path):
    shelf.count = 2
    with pytest.raises(SandboxUnavailable, match="2 images instead of one"):
        await images.have(Source(b"a"))
    assert shelf.names == {}
    assert list(tmp_path.iterdir()) == []


async def test_an_image_that_says_how_it_is_run_is_not_ours(images, shelf):
    source = Source(b"a")
    shelf.names[source.name] = "somebody else's"
    shelf.configs[source.name] = {"Env": ["LD_PRELOAD=/evil.so"], "User": ""}
    assert await images.have(source) != "somebody else's"
    assert source.asked == 1
    shelf.loaded = {"Labels": {"a": "b"}}
    with pytest.raises(SandboxUnavailable, match="the archive's image has a config"):
        await images.have(Source(b"b"))
    assert len(shelf.names) == 1


async def test_no_place_for_the_archive(shelf, tmp_path):
    images = DockerImages(ShelfEngine(shelf), tmp_path / "gone", "selftest-x", 1024)
    with pytest.raises(SandboxUnavailable, match=r"cannot write the image's archive to .*gone"):
        await images.have(Source(b"a"))


async def test_the_least_recently_used_make_room(images, shelf, monkeypatch):
    monkeypatch.setattr(docker_images, "IMAGES_MAX", 2)
    shelf.names["mutirao:" + "0" * 64] = "an earlier daemon's"
    shelf.names["mutirao:selftest-y"] = "another node's self-test"
    sources = [Source(bytes([number])) for number in range(3)]
    await images.have(sources[0])
    await images.have(sources[1])
    await images.have(sources[0])
    await images.have(sources[2])
    assert set(shelf.names) == {sources[0].name, sources[2].name, "mutirao:selftest-y"}


async def test_images_stay_within_their_bytes(shelf, tmp_path, monkeypatch):
    images = DockerImages(ShelfEngine(shelf), tmp_path, "selftest-x", 3)
    first, second, third = (Source(bytes([number]), 3 * 2**19) for number in range(3))
    shelf.sizes = dict.fromkeys((first.name, second.name, third.name), 3 * 2**19)
    for source in (first, second, first, third):
        await images.have(source)
    assert set(shelf.names) == {first.name, third.name}
    shelf.in_use = {first.name, third.name}
    with pytest.raises(StorageFull, match="do not fit into the 3 MiB"):
        await images.have(second)
    assert set(shelf.names) == {first.name, third.name}


async def test_an_engine_whose_disk_is_short_loads_no_more(images, shelf, tmp_path, monkeypatch):
    first, second = Source(b"a"), Source(b"b", 5)
    await images.have(first)
    info = {"DockerRootDir": str(tmp_path)}
    images._engine._client.info = lambda: info
    asked = []
    monkeypatch.setattr(docker_images, "is_short", lambda *given: asked.append(given) or True)
    with pytest.raises(StorageFull, match="engine's disk is too full"):
        await images.have(second)
    assert shelf.names == {}
    assert set(asked) == {(tmp_path, 5)}
    info["DockerRootDir"] = str(tmp_path / "not ours to look at")
    await images.have(second)


async def test_what_a_container_uses_stays(images, shelf, monkeypatch):
    monkeypatch.setattr(docker_images, "IMAGES_MAX", 1)
    first, second = Source(b"a"), Source(b"b")
    shelf.in_use.add(first.name)
    await images.have(first)
    await images.have(second)
    assert set(shelf.names) == {first.name, second.name}


def archive_of(content: bytes) -> bytes:
    """Return what `docker import` takes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.docker
@needs_engine
async def test_a_real_engine_loads_and_forgets(tmp_path):
    engine = DockerEngine()
    client = engine.client()
    client.api.import_image_from_data(archive_of(b"1"), repository="mutirao-test", tag="a")
    source = Source(b"".join(client.images.get("mutirao-test:a").save()))
    client.images.remove("mutirao-test:a")
    images = DockerImages(engine, tmp_path, "selftest-x", 1024)
    try:
        loaded = await images.have(source)
        assert client.images.get(source.name).id == loaded
        assert await images.have(source) == loaded
        assert source.asked == 1
        (tmp_path / "root").mkdir()
        (tmp_path / "root/etc").mkdir()
        empty = await images.selftest_image(tmp_path / "root")
        assert await images.selftest_image(tmp_path / "root") == empty
        await images.remove_selftest_image()
        with pytest.raises(docker.errors.ImageNotFound):
            client.images.get(empty)
    finally:
        client.images.remove(source.name)
        engine.close()
