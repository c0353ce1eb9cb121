"""Reasons: numbers and codes are for ever.

Spec: specs/errors.md#reasons.
"""

from protocol.values.reasons import (
    FAILURE_OF,
    FROM_PROVIDER,
    Decline,
    Failure,
    Mismatch,
    Refusal,
    Release,
    failure_told,
)


def test_numbers_are_those_of_the_first_day() -> None:
    """Add lines here; never change one."""
    assert {reason.name: reason.value for reason in Refusal} == {
        "BUSY": 1, "PRICE": 2, "UNPAID": 3, "UNPROVEN": 4, "CONDUCT": 5,
        "POLICY": 6, "EGRESS": 7,
    }  # fmt: skip
    assert {reason.name: reason.value for reason in Decline} == {
        "BUSY": 1, "EVIDENCE": 2, "POLICY": 4,
    }  # fmt: skip
    assert {reason.name: reason.value for reason in Release} == {
        "CANCELLED": 1, "FENCED": 2, "PREPARE_FAILED": 3, "SANDBOX_FAILED": 4, "STOPPING": 6,
        "EXPIRED": 7, "CONTRACT": 8, "SILENT": 9, "NOT_STARTED": 10, "OVERRUN": 11,
        "OUTPUTS_LOST": 12, "FORGOTTEN": 13, "MEMBER_FAILED": 14,
        "SLOT_BUSY": 15, "GPU_LOST": 16,
    }  # fmt: skip


def test_each_end_of_a_lease_means_something_for_its_job() -> None:
    assert set(FAILURE_OF) == set(Release)
    assert {failure_told(reason) for reason in FROM_PROVIDER} >= {Failure.EXPIRED}


def test_a_provider_cannot_cancel_a_job_or_blame_itself_for_silence() -> None:
    for reason in {*Release, 0, 200} - FROM_PROVIDER:
        assert failure_told(reason) is Failure.PROVIDER_STOPPED


def test_codes_for_people_are_words_with_hyphens() -> None:
    for code in [*Failure, *Mismatch]:
        assert code.value == code.value.lower()
        assert code.value.replace("-", "").isalpha()
