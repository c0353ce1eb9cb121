"""Bidders that compare their commit sets expose a requester that shows each another one.

Spec: specs/auction.md#audits.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.devnet import Devnet
from tests.end_to_end.fixtures import named, network_of, start, until

CHEAT = "tests.end_to_end.staggering_requester"
PROVIDERS = ("ana", "bruno", "carla")


@pytest.fixture
def cheated(image: Path) -> Iterator[Devnet]:
    settings = {name: {"provider.audit_percent": "100"} for name in PROVIDERS}
    with network_of(settings, image, CHEAT) as network:
        yield network


def test_who_shows_each_bidder_another_set_is_exposed_and_refused(cheated, tmp_path):
    requester = named(cheated, "requester")
    start(requester, "base", "--", "true")
    providers = [named(cheated, name) for name in PROVIDERS]

    def proofs_of(node) -> list[Path]:
        return sorted((node.data / "proofs").glob("*-equivocation.proof"))

    def exposed() -> list:
        return [node for node in providers if proofs_of(node)]

    until(lambda: len(exposed()) >= 2, "two bidders to have a proof")
    for node in exposed():
        told = node.mutirao("verify", str(proofs_of(node)[0]))
        assert told.returncode == 0, told.stderr
        assert "proven   equivocation\n" in told.stdout
        assert f"against  {requester.peer_id}\n" in told.stdout
        assert "cheated" in {bid["result"] for bid in node.api.get("/bids", limit=100)}
    torn = tmp_path / "torn.proof"
    sound = bytearray(proofs_of(exposed()[0])[0].read_bytes())
    sound[len(sound) // 2] ^= 1
    torn.write_bytes(sound)
    refused = exposed()[0].mutirao("verify", str(torn))
    assert refused.returncode == 5
    assert refused.stderr.startswith("error: torn.proof: ")
