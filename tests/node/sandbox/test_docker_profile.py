"""The policy in the engine's words.

Spec: specs/sandbox.md#docker-driver.
"""

import json
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from docker.types import DeviceRequest, Mount

from node.sandbox.bwrap import Extra
from node.sandbox.docker_engine import DockerEngine
from node.sandbox.docker_profile import MASKED, OWNER_LABEL, Place, arguments_of
from tests.node.sandbox.conftest import launch_of, needs_engine, workload

OUT = Mount("/out", "/runs/1/disk/out", type="bind", propagation="rprivate")
PLACE = Place("me", "sha256:1", (OUT,), (65532, 65532))
NOTHING = Extra()


def arguments(extra=NOTHING, **fields):
    return arguments_of(launch_of(workload("run", "-x"), **fields), PLACE, extra)


def host_config(extra=NOTHING, **fields):
    return arguments(extra, **fields)["host_config"]


def test_the_profile_is_strict():
    given = host_config()
    assert given["CapDrop"] == ["ALL"]
    assert given["ReadonlyRootfs"]
    assert given["Init"]
    assert (given["NetworkMode"], arguments()["network_disabled"]) == ("none", True)
    shared = arguments_of(
        launch_of(workload("x")), replace(PLACE, network="mutirao-1-out"), NOTHING
    )
    assert shared["host_config"]["NetworkMode"] == "container:mutirao-1-out"
    assert (shared["hostname"], shared["network_disabled"]) == (None, False)
    assert given["SecurityOpt"][0] == "no-new-privileges:true"
    seccomp = given["SecurityOpt"][1].removeprefix("seccomp=")
    assert json.loads(seccomp)["defaultAction"] == "SCMP_ACT_ERRNO"
    assert arguments()["user"] == "65532:65532"
    loose = {"Privileged", "PidMode", "UsernsMode", "UTSMode", "Devices", "CapAdd", "Binds"}
    assert not [name for name in loose if given.get(name)]


def test_limits():
    given = host_config()
    assert given["Memory"] == given["MemorySwap"] == 64 << 20
    assert given["PidsLimit"] == 17
    assert given["CpuQuota"] == given["CpuPeriod"] == 100_000
    assert {limit.name: limit.hard for limit in given["Ulimits"]}["fsize"] == 64 << 20


def test_a_job_comes_after_the_owners_programs():
    found = arguments(cpu_weight=10)["host_config"]
    assert (found["CpuShares"], found["BlkioWeight"], found["OomScoreAdj"]) == (102, 50, 1000)
    least = arguments(cpu_weight=1)["host_config"]
    assert (least["CpuShares"], least["BlkioWeight"]) == (10, 10)
    assert arguments()["host_config"]["CpuShares"] == 1024


def test_the_image_has_no_say():
    given = arguments()
    assert given["entrypoint"] == []
    assert given["command"] == ["run", "-x"]
    assert given["healthcheck"] == {"test": ["NONE"]}
    assert given["stop_signal"] == "SIGKILL"
    assert host_config()["LogConfig"]["Type"] == "none"


def test_temporary_files_are_in_memory_and_bounded_if_the_job_asks_for_it():
    assert not host_config().get("Tmpfs")
    job = workload("run", "-x", disk_in_memory=True)
    folders = arguments_of(launch_of(job), PLACE, NOTHING)["host_config"]["Tmpfs"]
    assert set(folders) == {"/tmp", "/scratch"}
    assert "size=16m" in folders["/tmp"]
    assert "uid=65532" in folders["/tmp"]


def test_neither_the_engines_runtime_nor_the_nodes_proxies_reach_a_job():
    given = arguments()
    assert given["use_config_proxy"] is False
    assert given["host_config"]["Runtime"] == "runc"
    assert given["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_what_tells_of_the_machine_is_masked():
    assert set(host_config()["MaskedPaths"]) >= {"/proc/kallsyms", "/proc/keys", "/sys/firmware"}


@pytest.mark.docker
@needs_engine
async def test_no_less_is_masked_than_by_the_engine_itself():
    engine = DockerEngine()
    api = engine.client().api
    name = f"mutirao-test:{secrets.token_hex(4)}"
    api.import_image_from_data(bytes(1024), *name.split(":"))
    container = api.create_container(name, ["none"])["Id"]
    try:
        theirs = api.inspect_container(container)["HostConfig"]["MaskedPaths"]
        assert set(theirs) <= set(MASKED)
    finally:
        api.remove_container(container)
        api.remove_image(name)
        engine.close()


def test_mounts_are_private_and_inputs_read_only():
    extra = Extra(binds=((Path("/usr"), "/usr"),))
    mounts = host_config(extra, inputs=(("a/b", Path("/blobs/1")),))["Mounts"]
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in mounts] == [
        ("/runs/1/disk/out", "/out", False),
        ("/blobs/1", "/in/a/b", True),
        ("/usr", "/usr", True),
    ]
    assert {m["BindOptions"]["Propagation"] for m in mounts} == {"rprivate"}


@pytest.mark.parametrize("driver, runtime", [("", None), ("cdi", "runc")])
def test_devices_are_requested_and_only_hooks_need_the_engines_runtime(driver, runtime):
    assert not host_config().get("DeviceRequests")
    assert host_config()["Runtime"] == "runc"
    request = DeviceRequest(driver=driver, device_ids=["GPU-1"])
    launch = launch_of(workload("run"), gpus=("GPU-1",))
    given = arguments_of(launch, replace(PLACE, gpus=request), NOTHING)
    assert given["host_config"]["DeviceRequests"] == [request]
    assert given["host_config"].get("Runtime") == runtime
    assert given["environment"]["NVIDIA_VISIBLE_DEVICES"] == "GPU-1"


def test_containers_know_their_node_and_name():
    given = arguments(name="mutirao-7")
    assert (given["labels"], given["name"]) == ({OWNER_LABEL: "me"}, "mutirao-7")
