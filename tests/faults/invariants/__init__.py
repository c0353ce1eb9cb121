"""What must hold in every run: one file each, with its name, its spec section and its check.

Spec: specs/faults.md#invariants. A module has `at_step`, which is called after every commit with
the node that committed, or `at_end`, which is called after all deadlines; both yield what is wrong.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tests.faults.invariants import (
    all_or_nothing,
    amounts,
    books,
    capacity,
    delivered_once,
    evidence,
    exposure,
    fallbacks,
    fenced_first,
    finished,
    gang_places,
    gang_together,
    hold,
    innocent,
    legal,
    nothing_left,
    one_payee,
    one_start,
    owed,
    price,
    reaped,
    replayed,
    resume,
    same_bytes,
    sealed,
    told_cost,
    vouchers_grow,
)

ALL: Final = (
    capacity, one_start, one_payee, nothing_left, reaped, same_bytes, hold, fallbacks,
    fenced_first, vouchers_grow, amounts, exposure, books, told_cost, legal, finished,
    delivered_once, sealed, price, evidence, all_or_nothing, gang_together, gang_places, owed,
    innocent, resume, replayed,
)  # fmt: skip
"""`replayed` is the last: it gives the nodes further inputs."""
AT_STEP: Final[Mapping[str, Callable[..., Iterable[str]]]] = {
    each.NAME: each.at_step for each in ALL if hasattr(each, "at_step")
}
AT_END: Final[Mapping[str, Callable[[Any], Iterable[str]]]] = {
    each.NAME: each.at_end for each in ALL if hasattr(each, "at_end")
}
