"""Where /out of a container of the engine is; on a real engine in test_docker_driver.py.

Spec: specs/sandbox.md#docker-driver.
"""

import os
from pathlib import Path

import docker.errors
import pytest
import requests

from node.sandbox import docker_outputs
from node.sandbox.bwrap import Extra
from protocol.values.errors import SandboxUnavailable

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Api:
    """What is asked of the engine."""

    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        return lambda *words, **named: self.asked.append((name, words, named))


def refusing(status):
    def refuse(*_, **__):
        answer = requests.Response()
        answer.status_code = status
        raise docker.errors.APIError("no", answer)

    return refuse


def test_a_mount_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(docker_outputs, "MOUNT_SECONDS", 0.01)
    with pytest.raises(SandboxUnavailable, match="sleep of /out took too long"):
        docker_outputs._run("sleep", "60")


@needs_root
def test_root_mounts_it_once_with_a_bound_for_bytes_and_files(tmp_path):
    place = tmp_path / "out"
    mount = docker_outputs.mount(place, 3)
    try:
        assert docker_outputs.mount(place, 3) == mount
        assert (mount["Source"], mount["Target"], mount["Type"]) == (str(place), "/out", "bind")
        size = os.statvfs(place)
        assert size.f_blocks * size.f_frsize == 3 << 20
        assert size.f_files == docker_outputs.FILES
        assert place.stat().st_uid == 65532
    finally:
        docker_outputs.unmount(place)
    assert not os.path.ismount(place)
    docker_outputs.unmount(place)


def test_a_mount_that_fails_names_no_path(tmp_path, monkeypatch):
    monkeypatch.setattr(docker_outputs, "_options", lambda *_: "size=nonsense")
    with pytest.raises(SandboxUnavailable, match="cannot mount /out: ") as caught:
        docker_outputs.mount(tmp_path / "out", 3)
    assert "Traceback" not in str(caught.value)


def test_a_volume_is_memory_of_the_jobs_user():
    api = Api()
    mount = docker_outputs.make_volume(api, "mutirao-1", "me", 3)
    [(name, words, _)] = api.asked
    assert (name, words[0], words[1]) == ("create_volume", "mutirao-1-out", "local")
    assert words[2]["type"] == "tmpfs"
    assert {"size=3m", f"uid={os.getuid()}", "nosuid", "nodev"} <= set(words[2]["o"].split(","))
    assert (mount["Type"], mount["Source"]) == ("volume", "mutirao-1-out")
    assert mount["VolumeOptions"]["NoCopy"]


def test_the_holder_runs_nothing_of_the_job():
    api = Api()
    volume = docker_outputs.make_volume(api, "mutirao-1", "me", 3)
    root = "empty image", Extra(binds=((Path("/usr"), "/usr"),))
    assert docker_outputs.make_holder(api, "mutirao-1", "me", root, volume) == "mutirao-1-out"
    _, words, named = api.asked[-1]
    assert words[0] == "empty image"
    assert words[1][0] == "/bin/sleep"
    assert named["user"] == f"{os.getuid() or 65532}:{os.getgid() or 65532}"
    assert named["labels"] == {"mutirao.owner": "me"}
    assert [(m["Target"], m["ReadOnly"]) for m in named["host_config"]["Mounts"]] == [
        ("/usr", True), ("/out", False)]  # fmt: skip
    api.create_container = refusing(409)
    assert docker_outputs.make_holder(api, "mutirao-1", "me", root, volume) == "mutirao-1-out"
    api.create_container = refusing(500)
    with pytest.raises(docker.errors.APIError):
        docker_outputs.make_holder(api, "mutirao-1", "me", root, volume)


def test_a_volume_that_is_not_there_is_removed_already():
    api = Api()

    def gone(_):
        raise docker.errors.NotFound("gone")

    api.remove_volume = gone
    docker_outputs.remove_volume(api, "mutirao-1")
