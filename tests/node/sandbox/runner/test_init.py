"""An init that is found again, and nobody in its place.

Spec: specs/sandbox.md#run-folder.
"""

import os
import subprocess

import pytest

from node.sandbox.runner import init, records


@pytest.fixture
def sleeper():
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def record(tmp_path, monkeypatch, sleeper):
    monkeypatch.chdir(tmp_path)
    init.note(sleeper.pid)
    return str(tmp_path / records.INIT)


def test_the_process_that_was_noted_is_ended(record, sleeper):
    init.end(record)
    assert sleeper.wait(10) == -9
    init.end(record)  # Nobody is there, which is as it should be.


@pytest.mark.parametrize("key", ["started", "namespace", "boot"])
def test_another_process_with_its_number_lives_on(record, sleeper, key):
    pairs = [
        (name, "other" if name == key else value) for name, value in records.read(record).pairs
    ]
    records.write(record, pairs)
    init.end(record)
    assert sleeper.poll() is None


def test_without_a_record_nobody_dies(tmp_path):
    init.end(str(tmp_path / records.INIT))


def test_a_process_that_is_gone_is_not_noted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    with pytest.raises(ProcessLookupError):
        init.note(gone)
    assert not (tmp_path / records.INIT).exists()
