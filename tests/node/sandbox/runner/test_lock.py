"""The lock of a run folder.

Spec: specs/sandbox.md#run-folder.
"""

import subprocess
import sys
import time

from node.sandbox.runner import lock

HOLD = """
import sys
from node.sandbox.runner import lock
print(lock.take(sys.argv[1]), flush=True)
sys.stdin.read()
"""


def test_the_kernel_names_the_holder_until_it_dies(tmp_path):
    path = str(tmp_path / "lock")
    assert lock.holder(path) is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"True\n"
        assert lock.holder(path) == process.pid
        assert lock.holder(path) == process.pid  # Asking takes nothing away.
        assert not lock.take(path)
        process.kill()
        process.wait()
        assert lock.holder(path) is None


def test_awaiting_another_runner_is_bounded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    lock.await_state(0.05)
    assert time.monotonic() - start >= 0.05
    (tmp_path / "state").touch()
    lock.await_state(60)
    assert time.monotonic() - start < 30
