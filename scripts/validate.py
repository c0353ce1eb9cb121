"""Validation of the simulator: results that were published, and what ours are.

Why: a researcher trusts a simulator that reproduces what is known before it says anything new.
Exit code 1 if a result is not as published, within its tolerance.
Spec: specs/validation.md#scripts.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from scripts import (
    validate_auctions,
    validate_devnet,
    validate_epidemics,
    validate_gossip,
    validate_lookups,
    validate_marketplaces,
    validate_tiers,
)
from scripts.devnet import show_json
from scripts.validate_studies import FULL, QUICK, Check, Effort, Study, evaluate

STUDIES: Final[tuple[Study, ...]] = (
    *validate_gossip.STUDIES, *validate_lookups.STUDIES, *validate_auctions.STUDIES,
    *validate_epidemics.STUDIES, *validate_tiers.STUDIES, *validate_marketplaces.STUDIES,
    *validate_devnet.STUDIES,
)  # fmt: skip
LINE: Final = 78


def main() -> int:
    """Run what is asked for, and print what came out."""
    parser = arguments()
    asked = parser.parse_args()
    if asked.workers < 1:
        parser.error("--workers is 1 or more")
    effort = QUICK if asked.quick else FULL
    named = [study for study in STUDIES if study.name.startswith(asked.only)]
    studies = [study for study in named if study.seeds(effort)]
    if named and not studies:
        parser.error(f"{asked.only!r} is not among the quick ones")
    if not studies:
        names = "; ".join(study.name for study in STUDIES)
        parser.error(f"no study begins with {asked.only!r}; there are: {names}")
    begin = time.monotonic()
    checks = validate(studies, effort, asked.workers)
    seconds = round(time.monotonic() - begin, 1)
    missed = sum(not check.has_passed for check in checks)
    if asked.json:
        rows = [check.row() for check in checks]
        show_json({"checks": rows, "missed": missed, "seconds": seconds})
    else:
        show(checks)
        print(f"{len(checks)} results, {missed} not as published; {seconds} s")
    return 1 if missed else 0


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/validate",
        description="Compute results that were published with the simulator, and compare: gossip,"
        " DHT lookups, auctions, epidemics, marketplaces; and whole nodes with the tier message."
        " Each mean is over several seeds, with its 95 % interval. Exit code 1 if one is not within"
        " its tolerance.",
    )
    parser.add_argument("--quick", action="store_true",
                        help="in a minute, without real processes; wider intervals")  # fmt: skip
    parser.add_argument("--only", default="", metavar="NAME",
                        help="the studies whose names begin so: V1, V2b, A, ...")  # fmt: skip
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser


def validate(studies: Sequence[Study], effort: Effort, workers: int) -> list[Check]:
    """Run studies; show how far they are while a person watches."""
    checks: list[Check] = []
    total = sum(study.seeds(effort) for study in studies)
    for done, (text, more) in enumerate(evaluate(studies, effort, workers), 1):
        checks += more
        if sys.stderr.isatty():
            line = f"[{done * 100 // total:>3} %] {text}"
            end = "\r" if done == total else ""
            print(f"\r{line:<{LINE}}", end=end, file=sys.stderr, flush=True)
    return checks


def show(checks: Sequence[Check]) -> None:
    """Print a line for each check, and the sources."""
    width = max(len(check.target.what) for check in checks)
    print(f"{'':<6} {'':<13} {'what':<{width}} {'published':<13} {'ours':>7}   95 %  seeds")
    for check in checks:
        target = check.target
        mean, half = (f"{each:.{target.digits}f}" for each in (check.mean, check.half_width))
        verdict = "ok" if check.has_passed else "MISSED"
        print(f"{verdict:<6} {target.key:<13} {target.what:<{width}} {target.published:<13}"
              f" {mean:>7} ±{half:>6} {len(check.values):>5}")  # fmt: skip
    print("sources:")
    for source in dict.fromkeys(check.target.source for check in checks):
        keys = [check.target.key.split()[0] for check in checks if check.target.source == source]
        print(f"  {', '.join(dict.fromkeys(keys))}: {source}")


if __name__ == "__main__":
    sys.exit(main())
