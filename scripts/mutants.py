"""Mutation tests of the transition tables: a mutant is the protocol without one transition.

Why: a total table does not show that each of its rows is needed. A mutant has to break what a
machine does, alone or in a network; tests of the tables and of documents do not count. No source
file changes: each mutant is a process, forked after the tests were imported.
Exit code 1 if a mutant survives, 2 if the tests fail without any mutation.
Spec: specs/overview.md#mutants.
"""

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

import pytest

from scripts.devnet import show_json
from scripts.spec_machines import MACHINES

SEEDS: Final = 30
"""Seeds of chaos. A row that only more seeds would miss deserves a test of its own."""
ALONE: Final = ("tests/protocol/machines",)
IN_A_NETWORK: Final = (
    "tests/protocol/test_transcripts.py", "tests/protocol/core", "tests/protocol/test_hostile.py",
    *(f"tests/protocol/test_chaos.py::test_chaos[{seed}]" for seed in range(SEEDS)),
)  # fmt: skip
OPTIONS: Final = (
    "--quiet", "--exitfirst", "-p", "no:cacheprovider", "--hypothesis-profile=mutants",
    "--hypothesis-seed=0", "--timeout=30",  # A mutant may wait for ever.
)  # fmt: skip
FORK: Final = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Row:
    """One transition of one machine."""

    machine: str
    state: type
    input: type

    @property
    def words(self) -> list[str]:
        """The row as the command line names it."""
        return [self.machine, self.state.__name__, self.input.__name__]


@dataclass(frozen=True, slots=True)
class Mutant:
    """The outcome for one deleted row: the first test that failed, empty if none did."""

    machine: str
    state: str
    input: str
    killed_by: str
    seconds: float


class BaselineFails(Exception):
    """The tests fail or do not run, whatever the tables hold."""


def main() -> int:
    """Delete each row asked for; print which test fails without it."""
    parser = arguments()
    asked = parser.parse_args()
    wanted = [word for word in (asked.machine, asked.state, asked.input) if word]
    rows = [row for row in all_rows() if row.words[: len(wanted)] == wanted]
    if not rows or asked.workers < 1:
        parser.error("--workers is 1 or more" if rows else f"there is no row {' '.join(wanted)}")
    begin = time.monotonic()
    try:
        import_tests()
        found = mutants(rows, asked.workers)
    except BaselineFails as error:
        print(f"error: {error}; see: pytest tests/protocol", file=sys.stderr)
        return 2
    seconds = round(time.monotonic() - begin, 1)
    if asked.json:
        show_json({"seconds": seconds, "rows": [asdict(mutant) for mutant in found]})
    else:
        show_table(found, seconds)
    return 0 if all(mutant.killed_by for mutant in found) else 1


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/mutants",
        description="Delete each transition of the machines in turn, and run the tests of behaviour"
        " until one fails. Exit code 1 if none does.",
    )
    parser.add_argument("machine", nargs="?", choices=MACHINES, help="only this machine")
    parser.add_argument("state", nargs="?", help="only this state")
    parser.add_argument("input", nargs="?", help="only this input")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser


def all_rows() -> list[Row]:
    """Return every transition of every machine."""
    return [Row(name, *pair) for name, (machine, _) in MACHINES.items()
            for pair in machine.TRANSITIONS]  # fmt: skip


def import_tests() -> None:
    """Import the tests, once for all processes; BaselineFails if that is impossible."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        code = pytest.main([*OPTIONS, "--collect-only", *ALONE, *IN_A_NETWORK])
    if code != pytest.ExitCode.OK:
        raise BaselineFails("the tests cannot be collected")
    gc.freeze()  # What all share needs no garbage collection: a third of the time.


def mutants(rows: Sequence[Row], workers: int) -> list[Mutant]:
    """Return the outcome for each row, in their order; BaselineFails if one has none."""
    waiting, running, found = deque(rows), dict[Connection, Row](), dict[Row, Mutant]()
    while waiting or running:
        while waiting and len(running) < workers:
            row = waiting.popleft()
            running[_begin(row)] = row
        for ended in wait(list(running)):
            assert isinstance(ended, Connection)
            row = running.pop(ended)
            found[row] = _outcome(row, ended)
            _show_progress(f"{len(found)} of {len(rows)}: {' '.join(row.words)}")
    return [found[row] for row in rows]


def _begin(row: Row) -> Connection:
    """Start the mutant of a row; return where its outcome arrives."""
    ours, theirs = FORK.Pipe(duplex=False)
    FORK.Process(target=_run, args=(row, theirs), daemon=True).start()
    theirs.close()
    return ours


def _outcome(row: Row, ended: Connection) -> Mutant:
    try:
        killed_by, seconds = ended.recv()
    except EOFError:
        raise BaselineFails(f"the tests also fail with {' '.join(row.words)}") from None
    return Mutant(*row.words, killed_by, seconds)


def _run(row: Row, outcome: Connection) -> None:
    """Run the tests without a row, then the failed one with it: only there it may pass."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    machine, pair = MACHINES[row.machine][0], (row.state, row.input)
    begin, watch, table = time.monotonic(), Watch(machine.__name__), machine.TRANSITIONS
    transition = table.pop(pair)
    code = pytest.main([*OPTIONS, *ALONE], plugins=[watch])
    if code == pytest.ExitCode.OK:
        code = pytest.main([*OPTIONS, *IN_A_NETWORK], plugins=[watch])
    if code == pytest.ExitCode.TESTS_FAILED:
        table[pair] = transition
        code = pytest.main([*OPTIONS, watch.failed])
    if code == pytest.ExitCode.OK:
        outcome.send((watch.failed, round(time.monotonic() - begin, 1)))


class Watch:
    """A plugin of pytest: the likely killers run first, and the first failure is kept."""

    def __init__(self, module: str) -> None:
        """Take the name of the machine's module."""
        self.failed = ""
        self._words = module.split(".")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put step-by-step tests before property tests, and the machine's own first."""
        items.sort(key=self._turn)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the name of the test that failed."""
        if report.failed:
            self.failed = report.nodeid

    def _turn(self, item: pytest.Item) -> tuple[bool, bool]:
        own = all(word in item.nodeid for word in self._words)
        return "hypothesis" in item.keywords, not own


def _show_progress(line: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"{line:70}", end=end, file=sys.stderr, flush=True)


def show_table(found: Sequence[Mutant], seconds: float) -> None:
    """Print each row with the test that failed without it."""
    for mutant in found:
        row = f"{mutant.machine:16}{mutant.state:12}{mutant.input:18}{mutant.seconds:6.1f} s"
        print(f"{row}  {mutant.killed_by.removeprefix('tests/protocol/') or 'SURVIVED'}")
    survivors = sum(not mutant.killed_by for mutant in found)
    print(f"{len(found)} mutants in {seconds} s, {survivors} survived")


if __name__ == "__main__":
    sys.exit(main())
