"""The command egress. Spec: specs/egress.md#log."""

from tests.node.rpc.recorded import REACHED


def test_what_jobs_reached(cli):
    head, first, second = cli("egress").out.splitlines()
    assert head.split() == [
        "LAST", "LEASE", "REQUESTER", "NAME", "USES", "SENT", "RECEIVED", "REFUSED",
    ]  # fmt: skip
    assert "abababababab" in first
    assert "pypi.org:443  3" in first
    assert first.endswith("-")
    assert second.endswith("port 22 is not allowed")


def test_one_lease_as_json(cli):
    (line,) = cli("egress", "AB", "--json").lines
    assert (line["host"], line["received"], line["refused"]) == ("pypi.org", 5_000_000, "")
    assert len(cli("egress", "--limit", "1", "--json").lines) == 1 < len(REACHED)
    assert cli("egress", "xyz").code == 5


def test_nothing(cli):
    told = cli("egress", "ef")
    assert (told.code, told.out) == (0, "")
    assert told.err.startswith("no job has reached anything")
