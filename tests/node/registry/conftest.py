"""What the tests of node/registry share.

Spec: specs/registries.md.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from node.data.blobs import Blobs
from tests.node.data.conftest import MemoryIndex
from tests.node.registry.hostile_registry import HostileRegistry, serving
from tests.node.registry.real_registry import RealRegistry, running


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Keep the credentials and the proxies of this machine out of the tests."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
async def blobs(tmp_path) -> Blobs:
    opened = Blobs(tmp_path / "blobs", MemoryIndex(), 256)
    await opened.reconcile()
    return opened


@pytest.fixture
async def hostile() -> AsyncIterator[HostileRegistry]:
    async with serving() as registry:
        yield registry


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Iterator[RealRegistry]:
    with running(tmp_path_factory.mktemp("registry")) as registry:
        yield registry
