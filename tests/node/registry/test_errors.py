"""Every error of a pull has a code, a status and an exit code. Spec: specs/registries.md#errors."""

import pytest

from node.cli.exit_codes import FAILURE, NOT_FOUND, REFUSED, exit_of
from node.registry import errors
from node.rpc.problems import problem_of


@pytest.mark.parametrize(
    "error, code, status, exit_code",
    [
        (errors.RegistryUnavailable, "registry-unavailable", 502, FAILURE),
        (errors.RegistryLied, "registry-lied", 502, FAILURE),
        (errors.ReferenceNotFound, "reference-not-found", 404, NOT_FOUND),
        (errors.RegistryDenied, "registry-denied", 422, REFUSED),
        (errors.PlatformMismatch, "platform-mismatch", 422, REFUSED),
    ],
)
def test_an_error(error, code: str, status: int, exit_code: int) -> None:
    problem = problem_of(error("why"))
    assert (problem.code, problem.status, problem.detail) == (code, status, "why")
    assert exit_of(code) == exit_code
