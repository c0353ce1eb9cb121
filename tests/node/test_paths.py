"""Where a node's files are by default. Spec: specs/configuration.md#sources."""

from pathlib import Path

import pytest

from node import paths
from node.paths import data_home, find_files, is_configured, xdg_folder


@pytest.mark.parametrize(
    "environment,expected",
    [
        ({"XDG_DATA_HOME": "/xdg", "HOME": "/home/ada"}, "/xdg/mutirao"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/home/ada"}, "/home/ada/.local/share/mutirao"),
        ({"HOME": "/home/ada"}, "/home/ada/.local/share/mutirao"),
    ],
)
def test_data_lies_where_the_xdg_specification_says(environment, expected: str) -> None:
    assert data_home(environment) == Path(expected)


def test_user_without_home_variable_has_a_folder() -> None:
    assert xdg_folder("XDG_DATA_HOME", "share", {}) == Path.home() / "share/mutirao"


def test_files_that_are_looked_for() -> None:
    assert find_files(None, {"HOME": "/home/ada"}) == (
        Path("/etc/mutirao/config.toml"), Path("/home/ada/.config/mutirao/config.toml"),
    )  # fmt: skip
    assert find_files(Path("mine"), {}) == (Path("mine"),)


def test_whether_anything_was_configured(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(paths, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert not is_configured(environment)
    assert is_configured(environment | {"MUTIRAO_LOG_LEVEL": "debug"})
    (tmp_path / "etc").write_text("")  # No folder: nothing is below it.
    assert not is_configured(environment)
    (tmp_path / "mutirao").mkdir()
    (tmp_path / "mutirao" / "config.toml").write_text("")
    assert is_configured(environment)


def test_a_file_that_cannot_be_looked_at_counts(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "config.toml").symlink_to("config.toml")  # A circle.
    monkeypatch.setattr(paths, "SYSTEM_FILE", tmp_path / "config.toml")
    assert is_configured({"HOME": str(tmp_path)})
