"""The tiers of isolation. Spec: specs/discovery.md#isolation."""

from pathlib import Path

from protocol.values.isolation import Isolation, isolation_name


def test_a_stronger_tier_has_a_higher_number() -> None:
    assert Isolation.CONTAINER < Isolation.GVISOR < Isolation.MICROVM < Isolation.VM
    assert Isolation.VM < Isolation.CONFIDENTIAL


def test_a_tier_of_a_later_version_is_shown_by_its_number() -> None:
    assert [isolation_name(tier) for tier in (1, 5, 6)] == ["container", "confidential", "6"]


def test_the_specification_lists_the_tiers() -> None:
    text = (Path(__file__).parents[3] / "specs/discovery.md").read_text()
    for tier in Isolation:
        assert f"| {tier.value} | {tier.name.lower()} |" in text
