"""The tables that a run results in: their columns, with types, units and meanings.

A table is kept as lists, one for each column: to add a value is one append.
Spec: specs/simulation-results.md#tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

INT, REAL, TEXT, FLAG, INTS = "int", "real", "text", "flag", "ints"
"""The types of columns: 64-bit integers and floats, UTF-8, true or false, lists of integers."""
Columns = dict[str, list[Any]]
Tables = dict[str, Columns]
Readable = Mapping[str, Mapping[str, Sequence[Any]]]
"""Tables as metrics read them."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Names of times end with their unit; money is in nano-credits."""

    name: str
    type: str
    about: str


def _columns(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


JOBS: Final = _columns(
    ("job", TEXT, "job id, hexadecimal"),
    ("requester", INT, "number of the node"),
    ("submitted_ms", INT, "its user submitted it"),
    ("announced_ms", INT, "its first call; null if another job's auction served it"),
    ("awarded_ms", INT, "its first award"),
    ("running_ms", INT, "its first container runs"),
    ("ended_ms", INT, "it is done or failed; null if neither"),
    ("outcome", TEXT, "done, failed or open"),
    ("reason", TEXT, "of the end or of the last attempt that failed; empty if there is none"),
    ("exit_code", INT, "of a job that is done"),
    ("attempts", INT, "how many attempts it has had"),
    ("provider", INT, "number of the node that had its last award"),
    ("bidders", INT, "bids opened in its last auction; null if another job's auction served it"),
    ("rate", INT, "of its last award, nano-credits per second"),
    ("ask", INT, "the same provider's ask"),
    ("floor", INT, "the same provider's floor for this job: its cost"),
    ("runner_up", INT, "what the best losing bid is worth"),
    ("rate_max", INT, "its value: the user's highest rate, or the highest cap of the calls for it"),
    ("work_ms", INT, "the usage that it needs"),
    ("usage_ms", INT, "the usage that was paid, over all attempts"),
    ("paid", INT, "the amount that was paid, over all attempts"),
    ("nodes", INT, "members of its gang; 1 if it stands alone"),
    ("cpus", INT, "processors that it needs"),
    ("gpus", INT, "GPUs that it needs"),
)
AUCTIONS: Final = _columns(
    ("at_ms", INT, "time of the award, otherwise of the opening"),
    ("requester", INT, "number of the node"),
    ("job", TEXT, "job id, hexadecimal"),
    ("demand", INT, "equal for jobs that need the same"),
    ("opened", INT, "bids opened"),
    ("eligible", INT, "those of them not above the highest rate"),
    ("unopened", INT, "commitments that were not opened"),
    ("refused", INT, "refusals"),
    ("rate_max", INT, "value of the job, as in jobs"),
    ("work_ms", INT, "the usage that the job needs"),
    ("winner", INT, "number of the provider; null if there was no award"),
    ("rate", INT, "nano-credits per second"),
    ("ask", INT, "the winner's ask"),
    ("floor", INT, "the winner's floor: its cost"),
    ("lowest", INT, "the lowest cost: of the winner and of all free slots at this time"),
    ("slots", INTS, "providers of the cheapest free slots, cheapest first, at most 16"),
    ("costs", INTS, "their floors"),
)
NODES: Final = _columns(
    ("number", INT, "number of the node"),
    ("region", TEXT, "where it is"),
    ("kind", INT, "index of its kind in the supply; null if it does not lend"),
    ("lends", FLAG, "whether it lends"),
    ("price_percent", INT, "list price in percent of its kind's; null if it does not lend"),
    ("online_ms", INT, "how long it was online"),
    ("busy_ms", INT, "how long it had at least one container"),
    ("used_ms", INT, "time of its containers, each times its share of the scarcest resource"),
    ("bids", INT, "bids that were opened"),
    ("awards", INT, "awards that it was sent"),
    ("earned", INT, "settled receipts as provider"),
    ("paid", INT, "settled receipts as requester"),
)
LINKS: Final = _columns(
    ("requesters", TEXT, "a region"),
    ("providers", TEXT, "a region, often the same"),
    ("latency_us", INT, "median time of a message between their nodes, of a sample of pairs"),
    ("awards", INT, "awards from requesters there to providers here"),
)
LOOKUPS: Final = _columns(
    ("at_ms", INT, "when it began"),
    ("node", INT, "who looks"),
    ("wanted", INT, "for whom"),
    ("found", FLAG, "whether the node is there, and was named in time"),
    ("hops", INT, "the depth at which it was named, 1 in the own table; null if not found"),
    ("requests", INT, "requests that were sent"),
    ("took_ms", INT, "until it ended, or the limit"),
)
EVENTS: Final = _columns(
    ("tick", INT, "when, in units of 100 µs"),
    ("kind", INT, "number of the message; 254 a deadline, 255 a submission"),
    ("node", INT, "number of the node"),
    ("peer", INT, "number of the sender; -1 if there is none"),
    ("number", INT, "what further tells it apart; 0 if nothing"),
)
COUNTS: Final = _columns(
    ("nodes", INT, "nodes"),
    ("requesters", INT, "nodes that submit jobs"),
    ("duration_ms", INT, "virtual time"),
    ("jobs", INT, "jobs submitted"),
    ("events", INT, "events of the engine"),
    ("digest", TEXT, "digest of the run"),
    ("messages", INT, "messages over streams, repetitions included"),
    ("published", INT, "messages that were gossiped"),
    ("transmissions", INT, "copies of them that were sent"),
    ("duplicates", INT, "copies whose receiver had one already"),
)
METRICS: Final = _columns(
    ("award_ms_p50", REAL, "time to award"),
    ("award_ms_p95", REAL, ""),
    ("award_ms_p99", REAL, ""),
    ("start_ms_p50", REAL, "time to start"),
    ("start_ms_p95", REAL, ""),
    ("start_ms_p99", REAL, ""),
    ("slowdown_mean", REAL, "bounded slowdown"),
    ("slowdown_p95", REAL, ""),
    ("served", REAL, "share of jobs that are done"),
    ("unserved", REAL, "share of jobs that failed"),
    ("unfinished", REAL, "share of jobs that are open at the end"),
    ("price_ratio", REAL, "rate over the winner's cost"),
    ("price_over_optimum", REAL, "rate over the lowest cost"),
    ("decentralisation", REAL, "price of decentralisation: the winner's cost over the lowest"),
    ("efficiency", REAL, "allocative efficiency"),
    ("utilisation", REAL, "busy share of the time that providers are online"),
    ("load", REAL, "used share of the same time"),
    ("jain_load", REAL, "Jain's index of the providers' loads"),
    ("jain_earned", REAL, "Jain's index of their earnings"),
    ("gini_earned", REAL, "Gini coefficient of their earnings"),
    ("messages_per_job", REAL, "messages over streams"),
    ("transmissions_per_job", REAL, "copies of gossiped messages"),
    ("copies_per_node", REAL, "copies of one message at a node that has it"),
    ("duplicates_per_node", REAL, "the same without the first"),
    ("retries_per_job", REAL, "attempts after the first"),
    ("lookups_found", REAL, "share of lookups that found their node"),
    ("lookup_hops", REAL, "mean depth at which nodes were found"),
    ("lookup_ms_p50", REAL, "time that lookups took"),
    ("lookup_ms_p95", REAL, ""),
    ("welfare", REAL, "value of what was done less its cost, nano-credits"),
    ("requester_surplus", REAL, "value less what was paid"),
    ("provider_surplus", REAL, "what was paid less cost"),
)
TABLES: Final = {
    "jobs": JOBS, "auctions": AUCTIONS, "nodes": NODES, "links": LINKS,
    "lookups": LOOKUPS, "events": EVENTS, "summary": (*COUNTS, *METRICS),
}  # fmt: skip
"""Their columns by name."""


def empty(name: str) -> Columns:
    """Return a table without rows."""
    return {column.name: [] for column in TABLES[name]}


def add_row(table: Columns, values: Mapping[str, Any]) -> int:
    """Append a row; what is not given is null. Return its place."""
    for name, column in table.items():
        column.append(values.get(name))
    return len(next(iter(table.values()))) - 1
