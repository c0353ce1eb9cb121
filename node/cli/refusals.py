"""Rewrites a refusal of a job in the user's own terms.

The node names its own fields, such as `memory_mib`; the user wrote --memory, or `memory` in a job
file. For a mistyped image name the error suggests the nearest one.
Spec: specs/errors.md.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Final

from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.output import duration
from protocol.values.units import size_of_mib

FIELD: Final = re.compile(r"(?:(?:workload|resources|terms): )*(\w+): (.+)")
BOUNDS: Final = re.compile(r"expected an integer from (\d+) to (\d+)")


LISTED: Final = "`mutirao image list` lists what is here; `mutirao image import FILE` brings one in"


def explained(
    failure: CliError, node: Connection, image: str, words: Mapping[str, str]
) -> CliError:
    """Return the refusal of a job in its user's terms.

    `words` says how the user wrote each field of a Draft: {"memory_mib": "--memory"}.
    """
    if failure.code == "not-found":
        return CliError(failure.code, failure.detail, nearest_image(node, image) or LISTED)
    if failure.code == "invalid-request":
        return CliError(failure.code, in_words(failure.detail, words), failure.hint)
    if failure.code == "invalid-query":
        return CliError(failure.code, f"{words['where']}: {failure.detail}", failure.hint)
    return failure


def in_words(detail: str, words: Mapping[str, str]) -> str:
    """Return the error of a field, with the user's name and units for it."""
    match = FIELD.fullmatch(detail)
    if match is None or match[1] not in words:
        return detail
    field, why = match.groups()
    if bounds := BOUNDS.fullmatch(why):
        least, most = (_amount(field, int(number)) for number in bounds.groups())
        why = f"give {least} to {most}"
    return f"{words[field]}: {why}"


def _amount(field: str, number: int) -> str:
    if field.endswith("_mib"):
        return size_of_mib(number)
    return duration(number) if field.endswith("_ms") else str(number)


def nearest_image(node: Connection, image: str) -> str:
    """Return a question with the name that is most like a word; "" if none is."""
    names = [name for view in node.get("/images") for name in view["names"]]
    if close := difflib.get_close_matches(image, names, 1):
        return f"did you mean {close[0]!r}?"
    return ""
