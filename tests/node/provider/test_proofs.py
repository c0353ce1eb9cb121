"""Fraud proofs as files: written whole, bounded, and read at the next start.

Spec: specs/fraud.md#files.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from node.provider import proofs as module
from node.provider.proofs import Proofs, name_of_proof
from protocol.machines.effects import Accuse
from protocol.machines.requester.auction import deciding
from protocol.rules.fraud import verify
from protocol.values.errors import StorageFull
from tests.node.fixtures import ADA, BEA, until
from tests.node.local_node import LocalPair

ROOT = Path(__file__).parent.parent.parent
PROVEN = [
    bytes.fromhex(one["proof"].removeprefix("0x"))
    for one in json.loads((ROOT / "vectors" / "messages.json").read_text())["proofs"]
]


def accusation(proof: bytes) -> Accuse:
    return Accuse(verify(proof), proof)


async def written(kept: Proofs, folder: Path, *given: bytes) -> list[str]:
    """Let proofs be written; return the names of all files."""
    for proof in given:
        kept.keep(accusation(proof))
    kept._queue.close()
    await kept.run()
    return sorted(path.name for path in await trio.Path(folder).iterdir())


async def test_a_proof_becomes_a_file_that_the_next_start_reads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Proofs(tmp_path)
    names = await written(kept, tmp_path, *PROVEN)
    findings = [verify(proof) for proof in PROVEN]
    expected = {name_of_proof(each.call_id, each.fraud) for each in findings}
    assert set(names) == expected
    assert "cheated: the price has no evidence" in caplog.text
    again = Proofs(tmp_path)
    assert set(await again.read()) == set(findings)
    assert kept.count == again.count == len(PROVEN)


async def test_the_oldest_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROOFS_MAX", 1)
    (first,) = await written(Proofs(tmp_path), tmp_path, PROVEN[0])
    os.utime(tmp_path / first, (1, 1))
    kept = Proofs(tmp_path)
    (second,) = await written(kept, tmp_path, PROVEN[1])
    assert first != second
    assert kept.count == 1


async def test_what_is_no_proof_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.proof").write_bytes(b"noise")
    (tmp_path / "y.txt").write_bytes(PROVEN[0])
    assert await Proofs(tmp_path).read() == ()
    assert "x.proof is no proof" in caplog.text


async def test_a_full_disk_loses_a_proof_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise StorageFull("the disk is full")

    kept = Proofs(tmp_path)
    monkeypatch.setattr(kept, "_write", full)
    assert await written(kept, tmp_path, PROVEN[0]) == []
    assert "a proof is lost: the disk is full" in caplog.text


def test_more_proofs_than_can_be_written_are_discarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX", 1)
    kept = Proofs(tmp_path)
    for proof in PROVEN[:2]:
        kept.keep(accusation(proof))
    assert "one is discarded" in caplog.text


async def test_a_whole_node_keeps_the_proof_of_a_cheat(
    pair: LocalPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written, shown to the owner, and read again by the next life."""
    fair = deciding.price_of

    def cheap(*given: Any) -> Any:
        return replace(fair(*given), rate=fair(*given).rate - 1)

    monkeypatch.setattr(deciding, "price_of", cheap)
    await pair.submit()
    folder = pair.bea.folder / "proofs"
    path = await until(lambda: next(folder.glob("*.proof"), None))
    finding = verify(await trio.Path(path).read_bytes())
    assert (finding.requester, finding.bidder) == (ADA.peer_id, BEA.peer_id)
    service = pair.bea.node.service
    await until(lambda: service.status().provider.proofs == 1)
    shown = next(each for each in await service.bids(100) if each.proof)
    assert (shown.result, shown.proof) == ("cheated", path.name)
    await pair.bea.crash()
    await pair.network.start(pair.bea)
    assert pair.bea.node.core.standings.of(ADA.peer_id).barred_until_ms
    assert pair.bea.node.service.status().provider.proofs == 1
