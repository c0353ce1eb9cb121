"""A job whose provider runs containers by the Docker Engine, where one answers.

Spec: specs/sandbox.md#docker-driver.
"""

import pytest

from tests.end_to_end.fixtures import (
    ended,
    is_free,
    named,
    network_of,
    offers_of,
    reached,
    run,
    sleep_command,
    start,
    until,
)
from tests.node.sandbox.conftest import needs_engine

pytestmark = [pytest.mark.docker, needs_engine]


@pytest.fixture(scope="module")
def dockers(image):
    settings = {"ana": {"provider.sandbox": "docker"}}
    with network_of(settings, image) as network:
        ana = named(network, "ana").peer_id
        assert offers_of(named(network, "requester"))[ana]["drivers"] == ["docker"]
        yield network


def test_a_job_goes_its_way(dockers, tmp_path):
    (tmp_path / "one").write_text("first\n")
    (tmp_path / "script").write_text("#!/bin/sh\ncat /in/one | tee /out/two; exit 3\n")
    (tmp_path / "script").chmod(0o755)
    ran = run(
        named(dockers, "requester"), f"--input={tmp_path}/one", f"--input={tmp_path}/script",
        f"--output={tmp_path}/result", "base", "--", "/in/script", code=3,
    )  # fmt: skip
    assert ran.stdout == "first\n"
    assert (tmp_path / "result/two").read_text() == "first\n"


def test_a_command_that_the_image_lacks(dockers):
    ran = run(named(dockers, "requester"), "base", "--", "nosuchprogram", code=127)
    assert "mutirao: nosuchprogram: not found in the image" in ran.stdout


def test_a_cancelled_job_lets_its_container_go(dockers):
    requester = named(dockers, "requester")
    job = start(requester, "base", "--", *sleep_command().split())
    reached(requester, job, "running")
    assert requester.mutirao("cancel", job).returncode == 0
    assert ended(requester, job)["phase"] == "cancelled"
    until(lambda: is_free(named(dockers, "ana")), "the provider's capacity to be free")
