"""The policy in the engine's words.

Spec: specs/execution.md#docker-driver.
"""

import json
from pathlib import Path

from node.sandbox.bwrap import Extra
from node.sandbox.docker_profile import OWNER_LABEL, Place, arguments_of
from tests.node.sandbox.conftest import launch_of, workload

PLACE = Place("me", "sha256:1", Path("/runs/1/out"), (65532, 65532))
NOTHING = Extra()


def arguments(extra=NOTHING, **fields):
    return arguments_of(launch_of(workload("run", "-x"), **fields), PLACE, extra)


def test_the_profile_is_strict():
    given = arguments()
    assert given["cap_drop"] == ["ALL"]
    assert given["read_only"]
    assert given["init"]
    assert (given["network_mode"], given["network_disabled"]) == ("none", True)
    assert given["security_opt"][0] == "no-new-privileges:true"
    seccomp = given["security_opt"][1].removeprefix("seccomp=")
    assert json.loads(seccomp)["defaultAction"] == "SCMP_ACT_ERRNO"
    assert given["user"] == "65532:65532"
    assert not {"privileged", "pid_mode", "userns_mode", "devices", "cap_add"} & given.keys()


def test_limits():
    given = arguments()
    assert given["mem_limit"] == given["memswap_limit"] == "64m"
    assert given["pids_limit"] == 17
    assert given["cpu_quota"] == given["cpu_period"] == 100_000
    assert {limit.name: limit.hard for limit in given["ulimits"]}["fsize"] == 64 << 20


def test_the_image_has_no_say():
    given = arguments()
    assert given["entrypoint"] == []
    assert given["command"] == ["run", "-x"]
    assert given["healthcheck"] == {"test": ["NONE"]}
    assert given["stop_signal"] == "SIGKILL"
    assert given["log_config"]["Type"] == "none"


def test_writable_folders_are_small_memory():
    folders = arguments()["tmpfs"]
    assert set(folders) == {"/tmp", "/run"}
    assert "size=16m" in folders["/tmp"]
    assert all("uid=65532" in options for options in folders.values())


def test_neither_the_engines_runtime_nor_the_nodes_proxies_reach_a_job():
    given = arguments()
    assert given["use_config_proxy"] is False
    assert given["runtime"] == "runc"
    assert given["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"
    given = arguments(gpus=("GPU-1",))
    assert given["runtime"] is None
    assert "NVIDIA_VISIBLE_DEVICES" not in given["environment"]


def test_mounts_are_private_and_inputs_read_only():
    extra = Extra(binds=((Path("/usr"), "/usr"),))
    mounts = arguments(extra, inputs=(("a/b", Path("/blobs/1")),))["mounts"]
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in mounts] == [
        ("/runs/1/out", "/out", False),
        ("/blobs/1", "/in/a/b", True),
        ("/usr", "/usr", True),
    ]
    assert {m["BindOptions"]["Propagation"] for m in mounts} == {"rprivate"}


def test_devices_go_by_uuid():
    assert arguments()["device_requests"] == []
    request = arguments(gpus=("GPU-1",))["device_requests"][0]
    assert request["DeviceIDs"] == ["GPU-1"]


def test_containers_know_their_node_and_name():
    given = arguments(name="mutirao-7")
    assert (given["labels"], given["name"]) == ({OWNER_LABEL: "me"}, "mutirao-7")
