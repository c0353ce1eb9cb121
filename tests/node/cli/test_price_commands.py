"""What commands say about prices. Spec: specs/bids.md#prices."""


def test_prices(cli):
    head, row = cli("prices").out.splitlines()
    assert head.split() == ["CLASS", "REGION", "COUNT", "LOWEST", "MEDIAN", "HIGHEST", "LATEST"]
    assert row.split() == [
        "h200", "-", "3", "1.0000", "1.5000", "2.0000", "2027-01-15", "08:00:00Z",
    ]  # fmt: skip
    assert cli("prices", "--json").lines[0]["count"] == 3


def test_a_node_that_has_seen_no_price(cli, daemon, monkeypatch):
    async def none():
        return ()

    monkeypatch.setattr(daemon.service, "prices", none)
    told = cli("prices")
    assert (told.code, told.out) == (0, "")
    assert "mutirao offers --sort price" in told.err
