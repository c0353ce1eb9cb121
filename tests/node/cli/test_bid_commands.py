"""The command bids. Spec: specs/bids.md."""


def test_bids(cli):
    head, lost, refused = cli("bids").out.splitlines()
    assert head.split() == ["AT", "REQUESTER", "FOR", "GPUS", "ASK/H", "RESULT", "PRICE/H", "WHY"]
    assert "4 cpus, 8 GiB" in lost
    assert lost.endswith("0.0110  lost     0.0100   another bid was lower")
    assert refused.endswith("-       refused  -        this node was busy")


def test_bids_as_json_and_their_limit(cli):
    (lost,) = cli("bids", "--limit", "1", "--json").lines
    assert (lost["result"], lost["ask_hour"], lost["awards"]) == ("lost", "0.0110", 0)
    assert cli("bids", "--limit", "0").code == 2
