"""How a command finds the daemon. Spec: specs/rpc.md#command-line."""

from pathlib import Path

import pytest

from node.cli.failure import CliError
from node.cli.options import effective_config, find_node


def test_the_order(monkeypatch, tmp_path):
    monkeypatch.setenv("MUTIRAO_SOCKET", "/env/s")
    assert find_node(Path("/a/s"), Path("/d")).path == Path("/a/s")
    assert find_node(None, Path("/d")).path == Path("/d/api.sock")
    assert find_node(None, None).path == Path("/env/s")
    monkeypatch.delenv("MUTIRAO_SOCKET")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert find_node(None, None).path == tmp_path / "mutirao" / "api.sock"


@pytest.mark.parametrize("by_file", [False, True])
def test_the_configuration_is_asked_if_there_is_any(monkeypatch, tmp_path, by_file):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    if by_file:
        (tmp_path / "mutirao").mkdir()
        (tmp_path / "mutirao" / "config.toml").write_text('socket = "/s"\ndata_dir = "/d"\n')
    else:
        monkeypatch.setenv("MUTIRAO_DATA_DIR", "/d")
    node = find_node(None, None)
    assert node.path == Path("/s" if by_file else "/d/api.sock")
    assert node._lock == Path("/d/lock")


def test_a_wrong_configuration_is_a_failure(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[network]\nlistne = []\n")
    with pytest.raises(CliError, match="listne") as caught:
        effective_config(file, {})
    assert caught.value.exit_code == 78
