"""Reasons: numbers and codes are for ever.

Spec: specs/errors.md#reasons.
"""

from protocol.values.reasons import Decline, Failure, Mismatch, Refusal, Release


def test_numbers_are_those_of_the_first_day() -> None:
    """Add lines here; never change one."""
    assert {reason.name: reason.value for reason in Refusal} == {
        "BUSY": 1, "PRICE": 2, "UNPAID": 3, "UNPROVEN": 4,
    }  # fmt: skip
    assert {reason.name: reason.value for reason in Decline} == {
        "BUSY": 1, "EVIDENCE": 2, "POLICY": 4,
    }  # fmt: skip
    assert {reason.name: reason.value for reason in Release} == {
        "CANCELLED": 1, "FENCED": 2, "PREPARE_FAILED": 3, "SANDBOX_FAILED": 4, "STOPPING": 6,
        "EXPIRED": 7, "CONTRACT": 8,
    }  # fmt: skip


def test_codes_for_people_are_words_with_hyphens() -> None:
    for code in [*Failure, *Mismatch]:
        assert code.value == code.value.lower()
        assert code.value.replace("-", "").isalpha()
