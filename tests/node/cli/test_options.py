"""How a command finds the daemon. Spec: specs/rpc.md#command-line."""

from pathlib import Path

import pytest

from node.cli.failure import Failure
from node.cli.options import effective_config, find_socket


def test_the_order(monkeypatch, tmp_path):
    monkeypatch.setenv("MUTIRAO_SOCKET", "/env/s")
    assert find_socket(Path("/a/s"), Path("/d")) == Path("/a/s")
    assert find_socket(None, Path("/d")) == Path("/d/api.sock")
    assert find_socket(None, None) == Path("/env/s")
    monkeypatch.delenv("MUTIRAO_SOCKET")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert find_socket(None, None) == tmp_path / "mutirao" / "api.sock"


def test_a_wrong_configuration_is_a_failure(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[network]\nlistne = []\n")
    with pytest.raises(Failure, match="listne") as caught:
        effective_config(file, {})
    assert caught.value.exit_code == 78
