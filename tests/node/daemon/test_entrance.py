"""A bootstrap peer that does not answer is one line of the log.

Spec: specs/operation.md#entrance.
"""

import logging
from types import SimpleNamespace

import pytest

from node.daemon.entrance import watch_entrance

HERE, THERE, GONE = "12D3KooWHere", "12D3KooWThere", "12D3KooWGone"


def network_with(*connected: str) -> SimpleNamespace:
    return SimpleNamespace(
        peer_id=HERE, peers=lambda: [SimpleNamespace(peer_id=peer) for peer in connected]
    )


async def test_each_silent_bootstrap_peer_is_named_once(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    addresses = [f"/ip4/192.0.2.1/tcp/4788/p2p/{peer}" for peer in (HERE, THERE, GONE)]
    await watch_entrance(network_with(THERE), addresses)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert addresses[2] in record.getMessage()
    assert "its port is open" in record.getMessage()


async def test_a_node_that_reached_everybody_says_nothing(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    await watch_entrance(network_with(GONE), [f"/ip4/192.0.2.1/tcp/1/p2p/{GONE}"])
    await watch_entrance(network_with(), [])
    assert not caplog.records
