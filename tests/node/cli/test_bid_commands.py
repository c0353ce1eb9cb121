"""The command bids. Spec: specs/bids.md."""

from dataclasses import replace

import trio


def answering(*known):
    """Return a service's `bids` that always returns the same."""

    async def bids(_limit):
        return known

    return bids


def test_bids(cli):
    head, lost, refused = cli("bids").out.splitlines()
    assert head.split() == [
        "AT", "REQUESTER", "FOR", "GPUS", "ASK/H", "SLOTS", "RESULT", "PRICE/H", "WHY",
    ]  # fmt: skip
    assert "4 cpus, 8 GiB" in lost
    assert lost.endswith("0.0110  3      lost     0.0100   another bid was lower")
    assert refused.endswith("-       -      refused  -        this node was busy")


def test_bids_as_json_and_their_limit(cli):
    (lost,) = cli("bids", "--limit", "1", "--json").lines
    assert (lost["result"], lost["ask_hour"], lost["awards"]) == ("lost", "0.0110", 0)
    assert (lost["slots"], lost["refusal"]) == (3, None)
    assert cli("bids", "--limit", "10000").code == 0
    assert cli("bids", "--limit", "0").code == 2
    assert cli("bids", "--limit", "10001").code == 2


def test_a_requester_that_cheated(cli, daemon, monkeypatch):
    (lost,) = trio.run(daemon.service.bids, 1)
    cheated = replace(lost, result="cheated", proof="abab-wrongly-lost.proof")
    monkeypatch.setattr(daemon.service, "bids", answering(cheated))
    told = cli("bids")
    assert "cheated" in told.out
    assert "proven: proofs/abab-wrongly-lost.proof in the node's data folder" in told.err
    assert cli("bids", "--json").lines[0]["proof"] == "abab-wrongly-lost.proof"


def test_a_node_that_nobody_has_asked(cli, daemon, monkeypatch):
    monkeypatch.setattr(daemon.service, "bids", answering())
    told = cli("bids")
    assert (told.code, told.out) == (0, "")
    assert told.err.startswith("this node has answered no call")
