"""The command refusals. Spec: specs/owner.md#refusals."""

from tests.node.rpc.recorded import PEER


def test_refusals(cli, daemon, monkeypatch):
    head, cpus, unpaid = cli("refusals").out.splitlines()
    assert head.split("  ")[0] == "LAST AT"
    assert cpus.endswith("has too few CPUs (asked 8, most 4)  lend more: provider.cpus")
    assert PEER in cpus
    assert unpaid.endswith("  -")
    assert [line["rule"] for line in cli("refusals", "--json").lines] == ["cpus", "unpaid"]
    monkeypatch.setattr(daemon.service, "refusals", lambda: ())
    told = cli("refusals")
    assert (told.code, told.out, told.err[:9]) == (0, "", "this node")
