"""The lines of keys in TOML files. Spec: specs/configuration.md#sources."""

import pytest

from node.config.toml_lines import line_of

TEXT = 'top = 1\n\n[provider]\n  cpus = 2\n"churn.session" = "1h"\n[ other ]\ncpus = 3\n'


@pytest.mark.parametrize("key, line", [
    ("top", 1), ("provider.cpus", 4), ("provider.churn.session", 5), ("other.cpus", 7),
    ("cpus", None), ("provider", None), ("absent", None),
])  # fmt: skip
def test_a_key_is_found_in_its_section(key: str, line: int | None) -> None:
    assert line_of(TEXT, key, quoted=True) == line


def test_quoted_keys_are_looked_at_only_if_asked() -> None:
    assert line_of(TEXT, "provider.churn.session") is None
    assert line_of(TEXT, "provider.cpus") == 4
