"""A disk that is full: one clear line, and the daemon lives on.

Spec: specs/storage.md, specs/errors.md.
"""

import os
import subprocess
from contextlib import suppress

import pytest

from scripts.devnet import devnet
from tests.end_to_end.fixtures import (
    OPEN_NETWORKS,
    assert_quiet_logs,
    events_of,
    give_image,
    named,
    newest,
    owner_of,
    refused,
    run,
)

REQUESTER_MIB, PROVIDER_MIB = 220, 30
INPUT_MIB = 25


@pytest.fixture(scope="module")
def small_disks(tmp_path_factory):
    """A function that makes a folder a small disk of its own; all are removed at the end."""
    mounted = []

    def make(size_mib: int) -> str:
        folder = tmp_path_factory.mktemp("disk")
        options = f"size={size_mib}m,mode=0700"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode:
            pytest.skip("only root can mount a small disk")
        mounted.append(folder)
        return str(folder)

    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def cramped(image, small_disks):
    """A requester and its cheapest provider on small disks, and a provider on a large one."""
    with devnet("mutirao-e2e-") as network:
        OPEN_NETWORKS.append(network)
        try:
            for name, size_mib in (("requester", REQUESTER_MIB), ("cramped", PROVIDER_MIB)):
                (network.folder / name).symlink_to(small_disks(size_mib))
            give_image(network.folder / "requester", image)
            network.add("requester", {"provider.enabled": "false"})
            network.add("cramped", {"price.cpu_hour": "0.01"})
            network.add("roomy", {"price.cpu_hour": "0.05"})
            network.wait_acquainted()
            yield network
            assert network.stop()["requester"] == 0
            assert_quiet_logs(network)
        finally:
            OPEN_NETWORKS.remove(network)


@pytest.fixture
def full(cramped):
    """The requester with a disk without a byte left, for the time of a test."""
    requester = named(cramped, "requester")
    filler = requester.data / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):  # Until it is full.
        while True:
            file.write(bytes(2**20))
    yield requester
    filler.unlink()


def test_no_job_is_taken_on_with_a_full_disk(full):
    refused(full, "run", "base", "--", "true", code=5, saying="disk is full")
    assert full.status()["peer_id"] == full.peer_id
    assert full.mutirao("jobs").returncode == 0


def test_an_input_that_does_not_fit_is_refused(full, tmp_path):
    (tmp_path / "large").write_bytes(bytes(5_000_000))
    said = refused(
        full, "run", f"--input={tmp_path}/large", "base", "--", "true", code=5, saying="error: "
    )
    assert "no room" in said or "full" in said
    assert full.status()["peer_id"] == full.peer_id


def test_an_image_that_does_not_fit_is_refused(full):
    refused(full, "image", "build-base", code=5, saying="full")
    assert full.status()["peer_id"] == full.peer_id


def test_a_provider_without_room_gives_the_job_back(cramped, tmp_path):
    """The first call of all: it waits for everybody, not only for who has answered before."""
    (tmp_path / "large").write_bytes(os.urandom(INPUT_MIB * 2**20))
    requester = named(cramped, "requester")
    needs = (f"--input={tmp_path}/large", "--disk=4M")
    ran = run(requester, *needs, "base", "--", "wc", "-c", "/in/large")
    view = newest(requester)
    assert owner_of(cramped, view["provider"]) == "roomy", view
    retries = [e["detail"] for e in events_of(requester, view["id"]) if e["kind"] == "retry"]
    assert [retry["reason"] for retry in retries] == ["prepare-failed"], view["bids"]
    assert "full" in retries[0]["why"]
    assert ran.stdout.split()[0] == str(INPUT_MIB * 2**20)
    assert named(cramped, "cramped").status()["peers"] == 2


def test_with_room_again_all_goes_on(cramped):
    requester = named(cramped, "requester")
    run(requester, "--disk=1G", "base", "--", "true")
    assert owner_of(cramped, newest(requester)["provider"]) == "roomy", "cramped offers no room"
