"""Whether a node is among others is a few lines of the log.

Spec: specs/operation.md#connectivity.
"""

import logging
from types import SimpleNamespace

import pytest
import trio

from node.messaging.connectivity_log import log_connectivity

HERE, THERE, GONE = "12D3KooWHere", "12D3KooWThere", "12D3KooWGone"
HOUR_S = 3600


def network_with(*connected: str) -> SimpleNamespace:
    network = SimpleNamespace(peer_id=HERE)
    meet(network, *connected)
    return network


def meet(network: SimpleNamespace, *connected: str) -> None:
    network.peers = lambda: [SimpleNamespace(peer_id=peer) for peer in connected]


def at(*peers: str) -> list[str]:
    return [f"/ip4/192.0.2.1/tcp/4788/p2p/{peer}" for peer in peers]


async def watched(network: SimpleNamespace, *bootstrap: str) -> None:
    with trio.move_on_after(HOUR_S):
        await log_connectivity(network, at(*bootstrap))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def said(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in log.records]


async def test_each_silent_bootstrap_peer_is_named_once(
    autojump_clock: object, log: pytest.LogCaptureFixture
) -> None:
    await watched(network_with(THERE), HERE, THERE, GONE)
    ((_, line),) = [each for each in said(log) if each[0] == "WARNING"]
    assert at(GONE)[0] in line
    assert "its port is open" in line


async def test_a_node_that_reached_everybody_says_so_once(
    autojump_clock: object, log: pytest.LogCaptureFixture
) -> None:
    await watched(network_with(THERE, GONE), THERE)
    assert said(log) == [("INFO", f"connected to {THERE}")]


async def test_a_lone_node_without_bootstrap_peers_says_nothing(
    autojump_clock: object, log: pytest.LogCaptureFixture
) -> None:
    await watched(network_with())
    assert said(log) == []


@pytest.mark.parametrize(
    "bootstrap, then",
    [
        ((HERE, THERE), "retrying the bootstrap peers"),
        ((HERE,), "waiting for one to connect"),
        ((), "waiting for one to connect"),
    ],
)
async def test_each_change_between_some_peers_and_none_is_one_line(
    autojump_clock: object,
    log: pytest.LogCaptureFixture,
    bootstrap: tuple[str, ...],
    then: str,
) -> None:
    network = network_with()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log_connectivity, network, at(*bootstrap))
        for connected in ((THERE,), (THERE, GONE), (GONE,), (), (GONE,)):
            meet(network, *connected)
            await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert said(log) == [
        ("INFO", f"connected to {THERE}"),
        ("WARNING", f"lost the last peer; {then}"),
        ("INFO", f"connected to {GONE}"),
    ]
