"""Nodes that join and leave: everybody soon knows, and nothing is left behind.

Spec: specs/discovery.md, specs/core.md#daemon.
"""

import json
import signal
import time

import pytest

from tests.end_to_end.fixtures import left_behind, named, offers_of, run, until

STOP_S = 5


@pytest.fixture
def newcomer(network):
    """A provider far away: it joins the common network, and has left it after the test."""
    node = network.add("newcomer", {"provider.region": "africa", "price.cpu_hour": "0.5"})
    try:
        node.wait_ready()
        yield node
    finally:
        node.stop()
        network.nodes.remove(node)
        assert "Traceback" not in node.log.read_text()
        node.log.unlink()


def others_know(network, node) -> bool:
    return all(
        node.peer_id in offers_of(other) for other in network.nodes if other.name != node.name
    )


def nobody_knows(network, node) -> bool:
    return not any(
        node.peer_id in offers_of(other) for other in network.nodes if other.name != node.name
    )


def test_one_bootstrap_address_is_enough_to_meet_all(network, newcomer):
    peers = {node.peer_id for node in network.nodes}
    until(lambda: set(offers_of(newcomer)) == peers, "the newcomer to know all offers", 30)
    until(lambda: others_know(network, newcomer), "all others to know the newcomer's", 30)
    until(lambda: newcomer.status()["peers"] >= 4, "the newcomer to be connected", 30)


def test_a_newcomer_gets_the_job_that_only_it_may_run(network, requester, newcomer):
    until(lambda: newcomer.peer_id in offers_of(requester), "the requester to know it", 30)
    run(requester, "--region=africa", "base", "--", "true")


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT, "stop"])
def test_a_node_that_is_told_to_stop_leaves_in_good_order(network, newcomer, way):
    until(lambda: others_know(network, newcomer), "all others to know the newcomer", 30)
    begin = time.monotonic()
    if way == "stop":
        assert newcomer.mutirao("stop").returncode == 0
    else:
        newcomer.process.send_signal(way)
    code = newcomer.process.wait(30)
    took = time.monotonic() - begin
    newcomer.process = None
    assert code == 0, newcomer.tail()
    assert took < STOP_S
    assert "Traceback" not in newcomer.log.read_text()
    assert not (newcomer.data / "api.sock").exists()
    assert left_behind(newcomer) == []
    until(lambda: nobody_knows(network, newcomer), "its offer to be withdrawn at all others")


def test_a_node_comes_back_as_who_it_was(network, newcomer):
    until(lambda: others_know(network, newcomer), "all others to know the newcomer", 30)
    peer, address = newcomer.peer_id, newcomer.address
    assert newcomer.stop() == 0
    until(lambda: nobody_knows(network, newcomer), "its offer to be withdrawn at all others")
    newcomer.start()
    newcomer.wait_ready()
    assert (newcomer.peer_id, newcomer.address) == (peer, address)
    until(lambda: others_know(network, newcomer), "all others to know it again", 30)
    run(named(network, "requester"), "--region=africa", "base", "--", "true")


def test_a_killed_node_still_knows_its_bids(network, requester, newcomer):
    until(lambda: newcomer.peer_id in offers_of(requester), "the requester to know it", 30)
    run(requester, "--region=africa", "base", "--", "true")
    won, *earlier = bids_of(newcomer)
    assert (won["result"], won["requester"]) == ("won", requester.peer_id)
    newcomer.kill()
    newcomer.start()
    newcomer.wait_ready()
    assert bids_of(newcomer) == [won, *earlier]
    assert "won" in newcomer.mutirao("bids", "--limit", "1").stdout


def bids_of(node):
    told = node.mutirao("bids", "--json")
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]
