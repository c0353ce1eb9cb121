"""A Dockerfile becomes an image by the engine of this machine. Spec: specs/registries.md#build."""

import json
import tarfile
from pathlib import Path

import pytest

from node.sandbox.image_build import build_image
from protocol.values.errors import InvalidRequest, SandboxUnavailable
from tests.node.sandbox.conftest import needs_engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose image needs no base and no network."""
    (tmp_path / "one").write_text("1")
    (tmp_path / "left-out").write_text("secret")
    (tmp_path / ".dockerignore").write_text("left-out\n")
    text = (
        'FROM scratch\nCOPY one /one\nCOPY . /all\nUSER 1000\nVOLUME /data\nENTRYPOINT ["/one"]\n'
    )
    (tmp_path / "Dockerfile").write_text(text)
    return tmp_path


async def test_without_a_dockerfile(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="is no file: name a Dockerfile with --file"):
        await build_image(tmp_path, "Dockerfile", tmp_path / "saved", print)


async def test_without_an_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/nobody.sock")
    with pytest.raises(SandboxUnavailable):
        await build_image(folder, "Dockerfile", folder / "saved", print)


@pytest.mark.docker
@needs_engine
async def test_an_image_is_built_and_saved(folder: Path, tmp_path_factory) -> None:
    saved = tmp_path_factory.mktemp("saved") / "image.tar"
    told: list[str] = []
    await build_image(folder, "Dockerfile", saved, told.append)
    assert any(line.startswith("Step 2/6 : COPY one /one") for line in told)
    with tarfile.open(saved) as archive:
        (listing,) = json.load(archive.extractfile("manifest.json"))
        config = json.load(archive.extractfile(listing["Config"]))
        names = set()
        for layer in listing["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as tar:
                names.update(tar.getnames())
    assert config["config"]["User"] == "1000"
    assert config["config"]["Volumes"] == {"/data": {}}
    assert {"one", "all/one"} <= names
    assert "all/left-out" not in names


@pytest.mark.docker
@needs_engine
async def test_a_build_that_fails(folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY absent /absent\n")
    with pytest.raises(InvalidRequest, match=r"the build failed: .*absent"):
        await build_image(folder, "Dockerfile", folder / "saved", print)
    (folder / "Dockerfile").write_text("FRM scratch\n")
    with pytest.raises((InvalidRequest, SandboxUnavailable), match=r"(?i)FRM"):
        await build_image(folder, "Dockerfile", folder / "saved", print)
