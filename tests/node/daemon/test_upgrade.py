"""A node goes on with everything in a data folder that an earlier version wrote.

tests/node/storage/frozen has what nodes wrote with the schemas 1, 4 and 5: an open lease, and an
auction or award, in each state that is saved, and a job that is done and paid.
Spec: specs/core.md#recovery.
"""

import sqlite3
from pathlib import Path

import pytest

from node.daemon.recovery import recall
from node.storage.journal import Totals, open_journal
from protocol.core.core import Core
from protocol.core.jobs import Ending
from tests.node.fixtures import ADA, ObedientSandbox, make_node_folder
from tests.node.memory_stream import MemoryStreams
from tests.simulated_network import START_MS, provider_policy

FROZEN = Path(__file__).parents[1] / "storage" / "frozen"
OPEN = {
    "requester": (
        "Deploying", "Launching", "Executing", "Fetched", "Releasing",
    ),
    "provider": (
        "Held", "Active", "Preparing", "Waiting", "Serving", "Stopping", "Settling",
    ),
}  # fmt: skip
AWARDS = ("Awarding", "Confirming")
"""Of version 1 these are auctions, whose jobs wait for a slot again."""
PAID = {1: 200_000, 4: 500_000, 5: 500_000}


@pytest.mark.parametrize("role", OPEN)
@pytest.mark.parametrize("version", PAID)
async def test_a_folder_of_an_earlier_version(
    tmp_path: Path, streams: MemoryStreams, role: str, version: int
) -> None:
    frozen = sqlite3.connect(tmp_path / "node.db")
    frozen.executescript((FROZEN / f"{role}_schema_{version}.sql").read_text())
    frozen.close()
    async with open_journal(tmp_path / "node.db") as journal:
        node_folder = await make_node_folder(
            tmp_path, journal, streams.opener(ADA.peer_id), ObedientSandbox()
        )
        past = await recall(journal, node_folder.context, node_folder.proofs, START_MS)
        core = Core(ADA, provider_policy())
        effects = core.recover(past.saved, provider_policy(), START_MS)
        own, others = core.requester, core.provider
        states = [
            *own.scheduler.awards.states.values(),
            *own.leases.states.values(),
            *others.leases.values(),
        ]
        ours = role == "requester"
        saved = (*OPEN[role], *AWARDS) if ours and version > 1 else OPEN[role]
        assert sorted(type(state).__name__ for state in states) == sorted(saved)
        assert len(effects) >= 3, "such as to follow a log, to fetch outputs, or to start again"
        assert [job.ending for job in past.saved.jobs] == ours * 7 * [Ending.OPEN]
        assert len(core.requester.jobs) == len(past.phases) == 7 * ours
        assert await journal.count_jobs() == ({"open": 7, "done": 1} if ours else {})
        paid = PAID[version]
        assert await journal.totals() == Totals(*((0, paid) if ours else (paid, 0)))
        assert len(past.saved.settled) == 1
        assert len(past.outbox) >= 4
        assert core.presence.sequence > 7, "records of this life are newer"
