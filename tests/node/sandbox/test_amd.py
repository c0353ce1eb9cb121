"""AMD devices in both drivers' words; no AMD GPU has run a test.

Spec: specs/gpus.md#amd.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from node.sandbox import amd
from node.sandbox.bwrap import Extra
from node.sandbox.policy import environment_of
from protocol.values.errors import SandboxUnavailable
from tests.node.sandbox.conftest import launch_of, workload


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with two AMD GPUs, made of files."""
    for name in ("kfd", "renderD128", "renderD129"):
        (tmp_path / name).touch()
    nodes = {f"AMD-{n}": str(tmp_path / f"renderD12{8 + n}") for n in (0, 1)}
    monkeypatch.setattr(amd, "take_render_nodes", lambda: nodes)
    monkeypatch.setattr(amd, "KFD", str(tmp_path / "kfd"))
    return tmp_path


def test_only_the_devices_asked_for_and_the_node_of_all(machine):
    extra = amd.nodes_for(("AMD-1",))
    assert extra.devices == (str(machine / "kfd"), str(machine / "renderD129"))
    with pytest.raises(SandboxUnavailable, match="no GPU AMD-7"):
        amd.nodes_for(("AMD-1", "AMD-7"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_job_gets_the_group_that_may_open_them(machine):
    os.chown(machine / "kfd", 0, 992)
    assert amd.nodes_for(("AMD-1",)).groups == (992,)


def test_rocm_finds_its_gpus_in_sys_and_no_more_of_the_machine(machine, monkeypatch):
    monkeypatch.setattr(amd, "HIDDEN", ("/sys/class", "/sys/no such folder"))
    extra = amd.extra_for(("AMD-0",))
    assert (extra.binds, extra.hidden) == (((Path("/sys"), "/sys"),), ("/sys/class",))


def test_variables_select_by_index():
    environment = environment_of(launch_of(workload("x"), gpus=("AMD-0", "AMD-1")))
    assert environment["HIP_VISIBLE_DEVICES"] == "0,1"
    assert not {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"} & environment.keys()


async def test_a_job_sees_sys_without_what_is_hidden(room):
    hidden = tuple(filter(os.path.isdir, amd.HIDDEN))
    more = Extra(binds=((Path("/sys"), "/sys"),), groups=(992,), hidden=hidden)
    own = room.extra
    room.extra = replace(more, binds=(*own.binds, *more.binds), env=own.env, devices=own.devices)
    end, log, _ = await room.run_shell(
        "ls /sys/devices >/dev/null && ls -A /sys/class/net /sys/fs/cgroup; id -G;"
        " touch /sys/class/net/x || echo read-only"
    )
    assert end.exit_code == 0, log
    seen = log.split()
    assert "eth0" not in seen
    assert "lo" not in seen
    assert seen[-1] == "read-only"
    if os.geteuid() == 0:
        assert "992" in seen or "65534" in seen
