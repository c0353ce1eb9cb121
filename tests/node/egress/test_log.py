"""The log of what jobs reached.

Spec: specs/egress.md#log.
"""

# ruff: noqa: ASYNC240

from pathlib import Path

import pytest
import trio
import trio.testing

from node.egress import log as module
from node.egress.log import FILE, OTHERS, EgressLog
from node.egress.proxy import ProxyUse
from protocol.values.ids import LeaseId
from tests.node.fixtures import ADA, LEASE

OTHER = LeaseId(b"M" * 32)


def make(folder: Path) -> EgressLog:
    times = iter(range(1, 10**6))
    return EgressLog(folder, lambda: next(times))


async def test_sums_outlive_the_node(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.note(LEASE, ADA.peer_id, ProxyUse("a.org", 443, 1, 10))
    await log.write()
    log.note(LEASE, ADA.peer_id, ProxyUse("a.org", 443, 2, 20))
    log.note(OTHER, ADA.peer_id, ProxyUse("a.org", 443, 4, 40))
    log.note(LEASE, ADA.peer_id, ProxyUse("b.org", 22, refused="port 22 is not allowed"))
    await log.write()
    refused, other, first = await make(tmp_path).newest("", 10)
    assert (first.uses, first.sent, first.received) == (2, 3, 30)
    assert (first.first_ms, first.last_ms) == (1, 2)
    assert (other.lease, other.sent) == (OTHER.hex(), 4)
    assert (refused.refused, refused.requester) == ("port 22 is not allowed", ADA.peer_id)
    assert [one.lease for one in await log.newest(OTHER.hex()[:6], 10)] == [OTHER.hex()]
    assert await log.newest("", 1) == (refused,)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


async def test_a_flood_of_names_is_summed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PENDING_MAX", 2)
    log = make(tmp_path)
    for number in range(100):
        log.note(LEASE, ADA.peer_id, ProxyUse(f"n{number}.org", 1, refused=f"why {number}"))
    found = await log.newest("", 10)
    assert [(one.host, one.uses) for one in found] == [(OTHERS, 98), ("n1.org", 1), ("n0.org", 1)]


async def test_the_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 1)
    log = make(tmp_path)
    for name in ("a.org", "b.org", "c.org"):
        log.note(LEASE, ADA.peer_id, ProxyUse(name, 443))
        await log.write()
    assert [one.host for one in await log.newest("", 10)] == ["c.org"]
    assert [path.name for path in tmp_path.iterdir()] == [f"{FILE}.1"]


async def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"lease": "ab", "req\n[]\n{"x": 1}\n')
    assert await make(tmp_path).newest("", 10) == ()


async def test_a_disk_that_fails_costs_the_lines_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = EgressLog(tmp_path / "missing", lambda: 1)
    log.note(LEASE, ADA.peer_id, ProxyUse("a.org", 443))
    await log.write()
    assert "what jobs reached is not written down" in caplog.text


async def test_what_is_noted_is_written_soon(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = make(tmp_path)
    with trio.move_on_after(module.WRITE_S * 3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            log.note(LEASE, ADA.peer_id, ProxyUse("a.org", 443))
            await trio.sleep_forever()
    assert (tmp_path / FILE).read_text().count("\n") == 1
