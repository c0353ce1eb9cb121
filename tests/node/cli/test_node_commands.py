"""Commands about the node. Spec: specs/rpc.md#command-line."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from node.cli.program import run
from node.network.interface import AddressTaken
from node.rpc.gpu_views import GpuTroubleView
from node.rpc.views import ResourcesView
from protocol.values.errors import DaemonUnavailable, InvalidRequest
from tests.node.cli.conftest import run_cli
from tests.node.rpc.recorded import FREE, PEER


def test_status(cli):
    text = cli("status")
    assert text.code == 0
    assert f"peer      {PEER}\n" in text.out
    assert "sandbox   embedded (no Docker Engine answers)" in text.out
    assert "own jobs  1 running" in text.out
    assert "lent now  nothing\n" in text.out
    assert "free      4 cpus, 8 GiB" in text.out
    assert text.err == ""
    assert "rule      provider.idle_s is not met: used 3 s ago\n" in cli("status").out
    assert cli("status", "--json").json["peer_id"] == PEER


def test_what_is_lent_now(cli, daemon, monkeypatch):
    status = daemon.service.status()
    free = replace(FREE, cpus=1, memory_mib=7680)
    lending = replace(status, provider=replace(status.provider, free=free))
    monkeypatch.setattr(daemon.service, "status", lambda: lending)
    text = cli("status").out
    assert "lent now  3 cpus, 512 MiB\n" in text
    assert "free      1 cpu, 7.5 GiB\n" in text
    nothing = ResourcesView(0, 0, 0, 0)
    disabled = replace(status.provider, enabled=False, total=nothing, free=nothing)
    monkeypatch.setattr(daemon.service, "status", lambda: replace(status, provider=disabled))
    assert "lent now" not in cli("status").out


def test_bids_that_reached_nobody(cli, daemon, monkeypatch):
    status = daemon.service.status()
    assert "warning" not in cli("status").out
    lost = replace(status, provider=replace(status.provider, bids_undelivered=3))
    monkeypatch.setattr(daemon.service, "status", lambda: lost)
    assert "warning   3 bids did not reach" in cli("status").out
    assert cli("status", "--json").json["provider"]["bids_undelivered"] == 3


def test_gpus_in_trouble_are_told(cli, daemon, monkeypatch):
    status = daemon.service.status()
    trouble = GpuTroubleView("GPU-2", "it is gone")
    troubled = replace(status.provider, gpu_troubles=(trouble,))
    monkeypatch.setattr(daemon.service, "status", lambda: replace(status, provider=troubled))
    assert "warning   GPU GPU-2 is not lent: it is gone\n" in cli("status").out
    told = cli("status", "--json").json["provider"]["gpu_troubles"]
    assert told == [{"uuid": "GPU-2", "trouble": "it is gone"}]


def test_traffic(cli):
    told = cli("status").out
    assert "messages  120 sent, 90 received\n" in told
    assert "gossip    30 sent, 40 received\n" in told
    assert "traffic   2.4 MiB sent, 0.1 MiB received\n" in told
    traffic = cli("status", "--json").json["traffic"]
    assert (traffic["messages_sent"], traffic["bytes_received"]) == (120, 61_000)


def test_proofs_are_counted_if_there_are_any(cli, daemon, monkeypatch):
    status = daemon.service.status()
    assert "proofs" not in cli("status").out
    some = replace(status, provider=replace(status.provider, proofs=2))
    monkeypatch.setattr(daemon.service, "status", lambda: some)
    assert "proofs    2 of fraud\n" in cli("status").out
    assert cli("status", "--json").json["provider"]["proofs"] == 2


def test_illegal_inputs_are_shown_if_there_are_any(cli, daemon, monkeypatch):
    status = daemon.service.status()
    assert "illegal" not in cli("status").out
    assert cli("status", "--json").json["illegal"] == {}
    counts = {"provider-lease Held Voucher": 3, "auction Calling BidReveal": 1}
    monkeypatch.setattr(daemon.service, "status", lambda: replace(status, illegal=counts))
    text = cli("status").out
    assert "illegal   auction Calling BidReveal: 1\n" in text
    assert "illegal   provider-lease Held Voucher: 3\n" in text
    assert cli("status", "--json").json["illegal"] == counts


def test_a_node_without_peers_says_how_to_give_it_one(cli, daemon, monkeypatch):
    alone = replace(daemon.service.status(), peers=0)
    monkeypatch.setattr(daemon.service, "status", lambda: alone)
    assert "mutirao up --bootstrap /ip4/" in cli("status").err
    assert cli("status", "--json").err == ""


def test_peers(cli):
    assert PEER in cli("peers").out
    assert cli("peers", "--json").lines[0]["direction"] == "outbound"


def test_stop(cli, daemon):
    assert cli("stop").err == "the node is stopping\n"
    assert daemon.service.stopped
    assert cli("stop", "--json").json == {"stopping": True}


def test_socket_and_data_options(daemon, tmp_path):
    assert run_cli("status", "--socket", daemon.socket).code == 0
    assert run_cli("status", "--data", daemon.socket.parent).code == 0
    missing = run_cli("status", "--data", tmp_path)
    assert (missing.code, missing.out) == (3, "")
    assert missing.err.startswith(f"error: no daemon answers on {tmp_path}/api.sock")


def test_a_wrong_configuration(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[provider]\nregoin = "europe"\n')
    for command in ("config", "up"):
        failed = run_cli(command, "--config", file)
        assert (failed.code, failed.out) == (78, "")
        assert "regoin" in failed.err
        assert "'provider.region'" in failed.err or "'region'" in failed.err


@pytest.mark.parametrize("code", [0, 1])
def test_up_runs_the_daemon_with_the_flags(monkeypatch, tmp_path, code):
    seen = []
    stand_in = SimpleNamespace(run_daemon=lambda *given: seen.append(given) or code)
    monkeypatch.setitem(sys.modules, "node.daemon", stand_in)
    peer = f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}"
    flags = [
        "--data",
        str(tmp_path),
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--listen",
        "/ip6/::1/tcp/0",
    ]
    assert run(["up", *flags, "--bootstrap", peer, "--json"]) == code
    ((config, read),) = seen
    assert read() == config, "the flags hold when the configuration is read again"
    assert config.data_dir == tmp_path
    assert config.socket == tmp_path / "api.sock"
    assert config.network.listen == ("/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0")
    assert config.network.bootstrap == (peer,)
    assert config.log_format == "json"


@pytest.mark.parametrize("option", ["--listen", "--bootstrap"])
def test_an_address_that_is_none_is_refused_at_once(tmp_path, capsys, option):
    assert run(["up", "--data", str(tmp_path / "d"), option, "127.0.0.1:47883"]) == 2
    err = capsys.readouterr().err
    assert f"Invalid value for '{option}': '127.0.0.1:47883' is not a multiaddress" in err


@pytest.mark.parametrize("flags,code", [(["--listen", "/ip4/1.2.3.4"], 2), ([], 78)])
def test_an_address_that_the_network_refuses(monkeypatch, tmp_path, capsys, flags, code):
    def refuse(*_given):
        raise InvalidRequest("'/ip4/1.2.3.4' has no port")

    monkeypatch.setitem(sys.modules, "node.daemon", SimpleNamespace(run_daemon=refuse))
    assert run(["up", "--data", str(tmp_path / "d"), *flags]) == code
    assert "has no port" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error,hint",
    [
        (AddressTaken("cannot listen on x"), "another address or port with --listen"),
        (DaemonUnavailable("another daemon (pid 1) uses x"), "stop it with `mutirao stop`"),
    ],
)
def test_why_up_fails_and_what_to_do(monkeypatch, tmp_path, capsys, error, hint):
    def fail(*_given):
        raise error

    monkeypatch.setitem(sys.modules, "node.daemon", SimpleNamespace(run_daemon=fail))
    assert run(["up", "--data", str(tmp_path / "d")]) != 0
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"error: {error}"
    assert hint in second
