"""The program's exit codes, for scripts that run it.

Spec: specs/rpc.md#exit-codes.
"""

from typing import Final

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
NOT_FOUND: Final = 4
REFUSED: Final = 5
NOT_RUN: Final = 6
CONFIGURATION: Final = 78
INTERRUPTED: Final = 130

MEANING: Final[dict[int, str]] = {
    OK: "success",
    FAILURE: "any other failure",
    USAGE: "the command line is wrong: it cannot be parsed, or a file that it names does not exist",
    UNREACHABLE: "no daemon answers",
    NOT_FOUND: "the node has no such job, image or file",
    REFUSED: "the request is invalid or refused",
    NOT_RUN: "the job could not be run: no bids, failed, or cancelled",
    CONFIGURATION: "the configuration is wrong",
    INTERRUPTED: "interrupted with Ctrl-C",
}

EXIT_OF_CODE: Final[dict[str, int]] = {
    "usage": USAGE,
    "daemon-unavailable": UNREACHABLE,
    "not-found": NOT_FOUND,
    "reference-not-found": NOT_FOUND,
    "invalid-request": REFUSED,
    "invalid-query": REFUSED,
    "invalid-proof": REFUSED,
    "nothing-proven": REFUSED,
    "conflict": REFUSED,
    "storage-full": REFUSED,
    "registry-denied": REFUSED,
    "platform-mismatch": REFUSED,
    "too-large": REFUSED,
    "method-not-allowed": REFUSED,
    "job-not-run": NOT_RUN,
    "config": CONFIGURATION,
    "identity": CONFIGURATION,
    "interrupted": INTERRUPTED,
}
"""From the code of an error to the exit code; any other error is FAILURE."""


def exit_of(code: str) -> int:
    """Return the exit code of an error's code."""
    return EXIT_OF_CODE.get(code, FAILURE)
