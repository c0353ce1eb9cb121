"""The key is made once, kept to ourselves, and used by one daemon at a time.

Spec: specs/identity.md#key-file.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from node import identity
from node.config import ConfigError
from node.identity import IdentityError, hold_lock, load_or_create, private_dir
from protocol.values.errors import DaemonUnavailable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "identity.key"


def test_key_is_made_once(key: Path) -> None:
    seed = load_or_create(key)
    assert len(seed) == 32
    assert len(set(seed)) > 8  # It came from somewhere random.
    assert load_or_create(key) == seed == key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    assert list(key.parent.iterdir()) == [key]  # No draft is left.


def test_two_that_start_at_once_have_the_same_key(key: Path) -> None:
    start = threading.Barrier(8)
    seeds = []

    def load() -> None:
        start.wait(10)
        seeds.append(load_or_create(key))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(seeds) == 8
    assert len(set(seeds)) == 1


def test_key_is_never_overwritten(key: Path) -> None:
    seed = load_or_create(key)
    identity._create(key)
    assert load_or_create(key) == seed


def test_nothing_is_left_if_writing_fails(key: Path, monkeypatch) -> None:
    def fails(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(IdentityError, match=r"identity\.key: No space left"):
        load_or_create(key)
    assert list(key.parent.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610])
def test_key_that_others_can_reach_is_refused(key: Path, mode: int) -> None:
    load_or_create(key)
    key.chmod(mode)
    with pytest.raises(IdentityError, match=r"other users have access .*chmod 600 .*identity\.key"):
        load_or_create(key)


@pytest.mark.parametrize("size", [0, 31, 33, 1000])
def test_key_of_wrong_size_is_refused_and_left_alone(key: Path, size: int) -> None:
    key.write_bytes(b"x" * size)
    key.chmod(0o600)
    with pytest.raises(IdentityError, match=r"not a key file .*32 bytes"):
        load_or_create(key)
    assert key.stat().st_size == size


def test_link_is_refused(key: Path) -> None:
    load_or_create(key.with_name("other.key"))
    key.symlink_to(key.with_name("other.key"))
    with pytest.raises(IdentityError, match="cannot use"):
        load_or_create(key)


def test_pipe_is_refused_without_waiting(key: Path) -> None:
    os.mkfifo(key, 0o600)
    with pytest.raises(IdentityError, match="not a key file"):
        load_or_create(key)


def test_key_of_another_user_is_refused(key: Path, monkeypatch) -> None:
    load_or_create(key)
    monkeypatch.setattr(os, "geteuid", lambda: key.stat().st_uid + 1)
    with pytest.raises(IdentityError, match="belongs to another user"):
        load_or_create(key)


def test_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="No such file"):
        load_or_create(tmp_path / "none" / "identity.key")


def test_folder_is_made_for_us_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert private_dir(folder) == folder
    assert private_dir(folder) == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(IdentityError, match="chmod 700") as caught:
        private_dir(tmp_path)
    assert isinstance(caught.value, ConfigError)
    assert caught.value.code == "identity"


def test_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IdentityError, match="File exists"):
        private_dir(tmp_path / "file")


def test_second_daemon_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("an old and longer text than a pid")
    expected = rf"another daemon \(pid {os.getpid()}\) uses {tmp_path}: end it"
    with hold_lock(lock), pytest.raises(DaemonUnavailable, match=expected), hold_lock(lock):
        raise AssertionError("held twice")
    with hold_lock(lock):
        assert lock.read_text() == f"{os.getpid()}\n"


@pytest.mark.slow
def test_lock_ends_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    code = (
        "import sys, pathlib; from node.identity import hold_lock\n"
        "with hold_lock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(lock)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(DaemonUnavailable, match=str(process.pid)), hold_lock(lock):
            raise AssertionError("held twice")
        process.kill()
        process.wait(10)
        with hold_lock(lock):
            assert lock.read_text() == f"{os.getpid()}\n"
