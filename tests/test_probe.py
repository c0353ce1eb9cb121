"""The probe, in every sandbox of this machine, as root and as an ordinary user; and its teeth.

Spec: specs/sandbox.md#probe.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from node.sandbox import bwrap, docker_profile
from node.sandbox.docker_engine import engine_socket
from node.sandbox.driver import Exit
from node.sandbox.drivers import AUTO_ORDER
from protocol.values.errors import SandboxUnavailable
from scripts import abuse
from scripts.attack_rig import Ended, rig
from scripts.probe import probe, probe_all, show
from scripts.probe_job import EGRESS_PROBES, PROBES
from tests.node.sandbox.conftest import needs_engine
from tests.ordinary_user import run_as_user

NEEDS = {"docker": [pytest.mark.docker, needs_engine]}
NAMES = [pytest.param(name, marks=NEEDS.get(name, [])) for name in AUTO_ORDER]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
BATTERY_S = 300
AS_A_USER = "import sys; from scripts.probe import main; sys.exit(main())"


@pytest.mark.parametrize("name", NAMES)
async def test_no_sandbox_of_this_machine_has_a_finding(name, capsys):
    async with rig(name) as opened:
        rows = await probe_all(opened)
    assert [row for row in rows if not row.ok] == []
    offered = () if name == "docker" and os.geteuid() else EGRESS_PROBES
    assert len(rows) == len(PROBES) + 2 + len(offered)
    assert not opened.folder.exists()
    show(rows)
    assert capsys.readouterr().out.endswith(" declared differences, 0 findings\n")


@pytest.mark.timeout(BATTERY_S)
@pytest.mark.parametrize("name", NAMES)
async def test_no_attack_gets_more_than_it_may(name):
    async with rig(name) as opened:
        rows = await abuse.run_at_once(opened)
    assert [row for row in rows if not row.ok] == []
    assert len(rows) == len(abuse.ATTACKS)


@needs_root
@pytest.mark.parametrize("name", NAMES)
def test_no_sandbox_of_an_ordinary_user_has_a_finding(name):
    rows = seen_by_a_user(name)
    assert [row for row in rows if not row["ok"]] == []
    assert len(rows) == len(PROBES) + 2 + (0 if name == "docker" else len(EGRESS_PROBES))


@pytest.mark.timeout(BATTERY_S)
@needs_root
@pytest.mark.parametrize("name", NAMES)
def test_nor_does_an_attack_get_more_there(name):
    rows = seen_by_a_user(name, "--at-once")
    assert [row for row in rows if not row["ok"]] == []
    assert len(rows) == len(abuse.ATTACKS)


def seen_by_a_user(name, *options):
    """The rows of scripts/probe for an ordinary user, who for Docker may use the engine."""
    engine = {"DOCKER_HOST": f"unix://{engine_socket()}"} if name == "docker" else {}
    groups = (Path(engine_socket()).stat().st_gid,) if name == "docker" else ()
    words = ("--json", f"--driver={name}", *options)
    done = run_as_user(AS_A_USER, *words, groups=groups, **engine)
    assert done.stdout, done.stderr
    rows = json.loads(done.stdout)[name]["rows"]
    assert done.returncode == any(not row["ok"] for row in rows)
    return rows


async def test_walls_that_are_missing_are_found(monkeypatch):
    missing = {"--unshare-net", "--unshare-ipc", "--new-session"}
    walls = tuple(wall for wall in bwrap.WALLS if wall not in missing)
    monkeypatch.setattr(bwrap, "WALLS", walls)
    monkeypatch.setattr(bwrap, "OPEN_FILES", 2000)
    monkeypatch.setattr(bwrap, "LEAKS", ())
    async with rig("embedded") as opened:
        if "soft memory" in opened.conditions:  # It bounds sockets in a network of the job's own.
            with pytest.raises(SandboxUnavailable, match="cannot limit the container's namespaces"):
                await probe(opened)
            return
        found = {row.name: row.seen for row in await probe(opened) if not row.ok}
    assert found["shared with the machine"] == "ipc net"
    assert found["the machine's loopback"] == found["a nameless socket of the machine"] == "done"
    assert found["open files"] == "1996"


@pytest.mark.docker
@needs_engine
async def test_so_are_those_of_docker(monkeypatch):
    monkeypatch.setattr(docker_profile.seccomp, "profile", lambda: "unconfined")
    monkeypatch.setattr(docker_profile, "MASKED", ())
    monkeypatch.setattr(docker_profile, "_no_gpu", lambda _: {"LD_AUDIT": "/evil.so"})
    async with rig("docker") as opened:
        found = {row.name: row.seen for row in await probe(opened) if not row.ok}
    assert found["filter"] == "0"
    assert found["to the hypervisor"] == found["ptrace"] == found["a user's by unshare"] == "done"
    assert "/proc/kallsyms" in found["of the kernel and the machine"]
    assert found["variables of others"] == "LD_AUDIT=/evil.so"


async def test_what_an_attack_leaves_or_takes_too_much_of_is_found(capsys, monkeypatch):
    daemons = next(attack for attack in abuse.ATTACKS if attack.name == "daemons_alone")
    async with rig("embedded") as opened:
        row = await abuse.run_one(opened, daemons)
        assert (row.ok, row.held, row.fault) == (True, 8, "")
        row = await abuse.run_one(opened, replace(daemons, bound=7))
        assert row.fault == "more than allowed"

        async def refuse(*_):
            raise SandboxUnavailable("no room")

        monkeypatch.setattr(opened.driver, "start_with", refuse)
        abuse.show([row, await abuse.run_one(opened, daemons)])
    shown = capsys.readouterr().out
    assert "FINDING: more than allowed\n" in shown
    assert "FINDING: it did not start: no room\n" in shown
    assert shown.endswith("2 attacks, 2 findings\n")


def test_how_an_attack_is_judged(tmp_path):
    class Opened:
        conditions = frozenset({"embedded", "root"})

    def fault(name: str, **fields) -> str:
        attack = next(attack for attack in abuse.ATTACKS if attack.name == name)
        ended = Ended(Exit(0, "exited", "", 1000, 900), "held 3\nheld 7\nheld 5\n", tmp_path, 1000)
        return abuse.fault_of(Opened, attack, replace(ended, **fields))

    assert abuse.held_in("held 3\nheld 7\nheld 5\n") == 7
    assert fault("memory") == ""
    assert fault("processors", log="held 4") == ""
    assert fault("memory", log="held 900") == "more than allowed"
    assert "otherwise than by timeout" in fault("daemons")
    assert fault("log", log="x" * (2 << 20)) == "its log is too long"
    assert fault("memory", wall_ms=10**6) == "it ended too late"
    busy = Exit(0, "exited", "", 1000, 3900)
    assert fault("processors", exit=busy, log="held 4") == "it computed 3900 ms in 1000 ms"
    (tmp_path / "a\nb").touch()
    assert "no terminal" in fault("outputs")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert "no regular file" in fault("outputs")
