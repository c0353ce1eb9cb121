"""Waiting for a daemon that starts, and only for such a one. Spec: specs/operation.md#starting."""

import socket
import subprocess
import sys
import time

import pytest

from node.cli import starting
from node.cli.program import run
from node.cli.starting import claiming, connect, is_claimed
from node.identity import hold_lock
from tests.node.cli.conftest import run_cli, start_cli


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "lock"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "api.sock"


def test_the_lock_and_the_sign_are_seen_without_touching_them(lock, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "lock"
    assert not is_claimed(lock)
    with hold_lock(lock):
        assert is_claimed(lock)
        assert not is_claimed(other)
    assert not is_claimed(lock)
    with claiming(tmp_path), claiming(tmp_path):  # The daemon's lock alone keeps a second out.
        assert is_claimed(lock)
        assert not is_claimed(other)
    assert not is_claimed(lock)
    assert not is_claimed(tmp_path / "none" / "lock")


def test_a_system_that_does_not_tell(lock, monkeypatch, tmp_path):
    monkeypatch.setattr(starting, "LOCKS", tmp_path / "none")
    with hold_lock(lock):
        assert not is_claimed(lock)


def test_a_daemon_that_starts_is_waited_for(lock, path, tmp_path, monkeypatch):
    looked = []
    with claiming(tmp_path), socket.socket(socket.AF_UNIX) as listener:

        def look(lock):
            looked.append(is_claimed(lock))
            if len(looked) == 3:
                listener.bind(str(path))
                listener.listen()
            return looked[-1]

        monkeypatch.setattr(starting, "is_claimed", look)
        connect(path, lock, 1).close()
    assert looked == [True] * 3


def test_a_daemon_that_fails_to_start_is_not(lock, path, monkeypatch):
    answers = iter([True, True])
    monkeypatch.setattr(starting, "is_claimed", lambda lock: next(answers, False))
    with pytest.raises(FileNotFoundError):
        connect(path, lock, 1)


def test_nobody_is_waited_for_if_nobody_starts(lock, path, monkeypatch):
    monkeypatch.setattr(starting, "START_S", float("inf"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))  # Left by a daemon that died.
    with pytest.raises(ConnectionRefusedError):
        connect(path, lock, 1)


def test_the_wait_has_an_end(lock, path, monkeypatch):
    monkeypatch.setattr(starting, "START_S", 0.05)
    with hold_lock(lock), pytest.raises(FileNotFoundError):
        connect(path, lock, 1)


def test_up_puts_its_sign_before_the_long_import(monkeypatch, tmp_path):
    class Import:
        """Stands in for node.daemon, and looks when it is imported from."""

        def __getattr__(self, name):
            seen.append(is_claimed(tmp_path / "d" / "lock"))
            return lambda config, *_: seen.append(is_claimed(config.data_dir / "lock")) or 0

    seen = []
    monkeypatch.setitem(sys.modules, "node.daemon", Import())
    assert run(["up", "--data", str(tmp_path / "d")]) == 0
    assert set(seen) == {True}
    assert not is_claimed(tmp_path / "d" / "lock")


@pytest.mark.slow
def test_up_and_at_once_another_command(tmp_path, monkeypatch, capsys):
    settings = {"MUTIRAO_DATA_DIR": str(tmp_path / "d"), "MUTIRAO_PROVIDER__ENABLED": "false",
                "MUTIRAO_NETWORK__LISTEN": "/ip4/127.0.0.1/tcp/0"}  # fmt: skip
    node = start_cli("up", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **settings)
    try:
        while not is_claimed(tmp_path / "d" / "lock"):
            assert node.poll() is None
            time.sleep(0.01)
        # Here it may take longer than for a user: the test's own limit ends the wait.
        monkeypatch.setattr(starting, "START_S", float("inf"))
        assert run(["status", "--json", "--data", settings["MUTIRAO_DATA_DIR"]]) == 0
        assert "peer_id" in capsys.readouterr().out
        second = run_cli("up", **settings)
        assert second.code == 3
        assert "another daemon" in second.err
        assert "stop it with `mutirao stop`" in second.err
        assert "start the node" not in second.err
        assert run_cli("stop", **settings).code == 0
        node.wait()
    finally:
        node.kill()
        node.wait()
