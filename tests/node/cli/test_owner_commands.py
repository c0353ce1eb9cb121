"""Commands by which the owner decides. Spec: specs/owner.md#modes."""

import signal

from node.rpc.owner_views import OwnerView
from tests.node.cli.conftest import start_cli


def test_pause_and_resume(cli):
    told = cli("pause")
    assert told.code == 0
    assert "the node takes no new jobs: paused by its owner\n1 job of others runs here" in told.err
    resumed = cli("resume", "--json").json
    assert (resumed["mode"], resumed["closed"], resumed["jobs"]) == ("open", "", 1)


def test_drain_waits_until_nothing_runs_unless_told_not_to(cli):
    assert cli("drain", "--no-wait", "--json").json["jobs"] == 1
    told = cli("drain")
    assert (told.code, told.err.splitlines()[0]) == (0, "waiting for 1 job of others")
    assert told.err.endswith("no jobs of others run here\n")


def test_ctrl_c_ends_the_waiting_and_nothing_else(daemon, monkeypatch):
    monkeypatch.setattr(daemon.service, "state", lambda: OwnerView("draining", "it drains", 1))
    process = start_cli("drain", socket=daemon.socket)
    assert process.stderr.readline() == b"waiting for 1 job of others\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert b"the node is still draining; `mutirao resume` undoes it" in err


def test_reclaim_says_how_long_and_waits(cli, daemon):
    told = cli("reclaim", "--within", "5s")
    assert (told.code, daemon.service.asked) == (0, 5_000)
    assert "waiting for 2 jobs of others\nwaiting for 1 job of others\n" in told.err
    assert cli("reclaim", "--within", "soon").code == 2
    longer = cli("reclaim", "--within", "6m")
    assert (longer.code, "at most 5 minutes are possible" in longer.err) == (2, True)


def test_a_node_that_is_resumed_meanwhile_is_not_waited_for(cli, daemon, monkeypatch):
    monkeypatch.setattr(daemon.service, "state", lambda: OwnerView("open", "", 1))
    told = cli("drain")
    assert (told.code, told.err.splitlines()[-1]) == (5, "error: the node is open meanwhile")
