"""A job in an image of a registry: from the registry over the requester to a provider's sandbox.

Spec: specs/registries.md#images-of-jobs.
"""

import gzip
import hashlib
import json

import pytest

from tests.end_to_end.fixtures import run
from tests.node.registry.real_registry import needs_registry, running, tar_of

SCRIPT = """id -u; pwd; cat greeting; echo "$NAME"; ls -d /data
test -e /gone || echo gone; touch /data/x; exit 4"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with running(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


def layers_of_base(blobs) -> list[tuple[bytes, str]]:
    """Return the packed layers of the base image, with their diff_ids."""

    def read(digest: str) -> bytes:
        return (blobs / "sha256" / digest[:2] / digest).read_bytes()

    manifest = json.loads(read(json.loads((blobs / "tags.json").read_text())["base"]))
    config = json.loads(read(manifest["config"]["digest"].removeprefix("sha256:")))
    layers = [read(each["digest"].removeprefix("sha256:")) for each in manifest["layers"]]
    return list(zip(layers, config["rootfs"]["diff_ids"], strict=True))


@needs_registry
def test_an_image_with_layers_user_volume_and_entry_point(image, requester, registry) -> None:
    layers = layers_of_base(image)
    for tar in (
        tar_of(("srv", "/"), ("srv/greeting", b"old\n"), ("gone", b""), ("data", "/")),
        tar_of(("srv/greeting", b"hello\n"), (".wh.gone", b"")),
    ):
        layers.append((gzip.compress(tar), f"sha256:{hashlib.sha256(tar).hexdigest()}"))
    pushed = registry.push_packed(
        "team/app", layers, "+gzip", "1.0", User="1234:1234", WorkingDir="/srv",
        Env=["NAME=of the image"], Volumes={"/data": {}}, Entrypoint=["/absent"],
    )  # fmt: skip
    name = f"{registry.name}/team/app:1.0"
    ran = run(requester, name, "--", "sh", "-c", SCRIPT, code=4)
    user, *lines = ran.stdout.splitlines()
    assert user != "0"
    assert lines[:5] == ["/srv", "hello", "of the image", "/data", "gone"]
    assert "Read-only file system" in lines[5]
    assert f"{name} is {pushed}" in ran.stderr
    (job,) = [job for job in requester.api.get("/jobs") if job.get("image_name") == name]
    assert job["image"] == pushed.removeprefix("sha256:")
