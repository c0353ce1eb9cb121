"""The market under every fault: many small worlds, each made of one seed, and what must hold.

Why: the races that break a market are too rare for examples and too many for a reviewer. A seed
repeats a run exactly; a mutant shows that the runs would notice a broken rule.
Exit code 1 if an invariant is broken, or if a mutant is not caught.
Spec: specs/faults.md#scripts.
"""

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final

from scripts.devnet import show_json
from tests.faults.mutants import BY_NAME, MUTANTS, Mutant
from tests.faults.world import Run, run

RUNS: Final = 2_000
MUTANT_RUNS: Final = 400
CHUNK: Final = 10
TRACE_LINES: Final = 80
SHOWN_MAX: Final = 20
BAR: Final = 30
FORK: Final = multiprocessing.get_context("fork")


@dataclass
class Report:
    """What many runs found."""

    seed: int
    runs: int = 0
    violations: list[dict[str, str | int]] = field(default_factory=list)
    """Each with its seed, the invariant, and what was seen."""
    runs_with_violations: int = 0
    slots: int = 0
    """The slots of all jobs whose requesters survived."""
    completed: int = 0
    """Of these, the slots that have run to their end and delivered their result."""
    crashes: int = 0
    seconds: float = 0.0
    runs_per_second: float = 0.0
    processors: int = 0

    def add(self, outcome: Run) -> None:
        """Count one run."""
        self.runs += 1
        self.slots += outcome.jobs
        self.completed += outcome.done
        self.crashes += outcome.crashes
        self.runs_with_violations += bool(outcome.violations)
        self.violations += [{"seed": outcome.seed} | asdict(each) for each in outcome.violations]


def main() -> int:
    """Run what is asked for and print what was found."""
    parser = arguments()
    asked = parser.parse_args()
    if (asked.runs is not None and asked.runs < 1) or asked.workers < 1 or asked.seed < 0:
        parser.error("--runs and --workers are 1 or more, --seed is 0 or more")
    if asked.mutants and (asked.mutant or asked.trace):
        parser.error("--mutants runs all of them; for one, give --mutant NAME --trace")
    gc.freeze()  # What all processes share needs no garbage collection.
    if asked.mutants:
        return _run_mutants(asked)
    mutant = BY_NAME[asked.mutant] if asked.mutant else None
    report = explore(asked.seed, asked.runs or RUNS, mutant, asked.workers)
    if asked.json:
        show_json(asdict(report))
    else:
        show(report, mutant)
    if asked.trace:
        show_trace(report, mutant)
    return 1 if report.violations else 0


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/faults",
        description="Run requesters and providers in virtual time while messages are lost, repeated"
        " and late, and nodes crash, freeze, part and die; check what must always hold."
        " Exit code 1 if it does not.",
    )
    parser.add_argument("--runs", type=int, help=f"how many seeds ({RUNS}; a mutant {MUTANT_RUNS})")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--trace", action="store_true",
                        help="print the first run with a violation, or the only run")  # fmt: skip
    parser.add_argument("--mutants", action="store_true",
                        help="break each load-bearing rule in turn")  # fmt: skip
    parser.add_argument("--mutant", choices=sorted(BY_NAME), metavar="NAME",
                        help=f"break this rule: {', '.join(BY_NAME)}")  # fmt: skip
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser


def explore(seed: int, runs: int, mutant: Mutant | None, workers: int) -> Report:
    """Run the seeds from `seed` on, on all processors."""
    report, begin = Report(seed, processors=workers), time.monotonic()
    name = mutant.name if mutant else ""
    with FORK.Pool(workers) as pool:
        outcomes = pool.imap_unordered(partial(_run, name), range(seed, seed + runs), CHUNK)
        for outcome in _with_progress(outcomes, runs, name or "runs"):
            report.add(outcome)
    report.seconds = round(time.monotonic() - begin, 1)
    report.runs_per_second = round(runs / max(time.monotonic() - begin, 0.001), 1)
    report.violations.sort(key=lambda each: each["seed"])
    return report


def _run(name: str, seed: int) -> Run:
    return run(seed, BY_NAME.get(name))


def _with_progress(outcomes: Iterable[Run], runs: int, what: str) -> Iterator[Run]:
    """Yield the outcomes; show a bar while a person watches."""
    begin, violations, shown_s = time.monotonic(), 0, 0.0
    for count, outcome in enumerate(outcomes, 1):
        violations += bool(outcome.violations)
        now_s = time.monotonic()
        if sys.stderr.isatty() and (now_s - shown_s > 0.1 or count == runs):
            shown_s, done = now_s, BAR * count // runs
            rate = count / max(now_s - begin, 0.001)
            bar = "#" * done + "." * (BAR - done)
            end = "\n" if count == runs else ""
            text = f"[{bar}] {count} of {runs} {what}, {violations} with violations, {rate:.0f}/s"
            print(f"\r{text:<78}", end=end, file=sys.stderr, flush=True)
        yield outcome


def show(report: Report, mutant: Mutant | None) -> None:
    """Print a report for people."""
    for each in report.violations[:SHOWN_MAX]:
        print(f"seed {each['seed']}: {each['invariant']}: {each['what']}")
    if len(report.violations) > SHOWN_MAX:
        print(f"... and {len(report.violations) - SHOWN_MAX} more")
    if report.violations:
        extra = f" --mutant {mutant.name}" if mutant else ""
        print(
            f"repeat: scripts/faults --seed {report.violations[0]['seed']} --runs 1{extra} --trace"
        )
    print(
        f"{report.runs} runs from seed {report.seed},"
        f" {report.runs_with_violations} with violations;"
        f" {report.completed} of {report.slots} slots completed, {report.crashes} crashes;"
        f" {report.seconds} s, {report.runs_per_second} runs/s on {report.processors} processors"
    )


def show_trace(report: Report, mutant: Mutant | None) -> None:
    """Print the end of the first run with a violation, up to it; or the only run."""
    if not report.violations and report.runs > 1:
        print("no violation, so no trace; --runs 1 prints any run", file=sys.stderr)
        return
    seed = int(report.violations[0]["seed"]) if report.violations else report.seed
    lines = list(run(seed, mutant, trace=True).trace)
    first = next((at for at, line in enumerate(lines) if "VIOLATION" in line), None)
    if first is not None:
        lines = lines[max(0, first - TRACE_LINES) : first + 1]
    print(f"seed {seed}, in milliseconds:", *lines, sep="\n")


def _run_mutants(asked: argparse.Namespace) -> int:
    rows = []
    for mutant in MUTANTS:
        report = explore(asked.seed, asked.runs or MUTANT_RUNS, mutant, asked.workers)
        rows.append(_row(mutant, report))
    if asked.json:
        show_json({"mutants": rows})
    else:
        show_mutants(rows)
    return 0 if all(row["as_expected"] for row in rows) else 1


def _row(mutant: Mutant, report: Report) -> dict[str, str | int | bool]:
    which = Counter(str(each["invariant"]) for each in report.violations)
    return {
        "mutant": mutant.name, "rule": mutant.rule, "safe": mutant.safe, "runs": report.runs,
        "runs_with_violations": report.runs_with_violations,
        "invariants": ", ".join(name for name, _ in which.most_common(3)),
        "completed": report.completed, "slots": report.slots,
        "as_expected": mutant.safe == (report.runs_with_violations == 0),
    }  # fmt: skip


def show_mutants(rows: Sequence[dict[str, str | int | bool]]) -> None:
    """Print one line for each mutant, and what its runs noticed."""
    print(f"{'runs':>5} {'violated':>8} {'completed':>10}  broken rule: what noticed it")
    for row in rows:
        expected = "safe: only time is lost" if row["safe"] else row["invariants"]
        verdict = expected if row["as_expected"] else f"UNEXPECTED {row['invariants'] or 'nothing'}"
        completed = f"{row['completed']}/{row['slots']}"
        print(f"{row['runs']:>5} {row['runs_with_violations']:>8} {completed:>10}"
              f"  {row['mutant']}: {row['rule']}: {verdict}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
