"""Running code as a user who is nobody in particular, for tests that root runs.

In a process of its own, since user ids do not come back.
Spec: specs/overview.md#tests.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = 1234


def python_of_user() -> str:
    """Return a Python of our version that the user can run, and our code with it; skip if none."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for program in (sys.executable, f"/usr/bin/{name}"):
        command = [program, "-c", f"open({__file__!r}); import node, trio"]
        try:
            done = subprocess.run(command, user=USER, group=USER, extra_groups=[], cwd="/",
                                  env=_environment(), capture_output=True, check=False)  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            return program
    pytest.skip("another user can run no Python of this version here")


def run_as_user(code: str, *words: str, groups: tuple[int, ...] = (), **variables: str):
    """Run Python code with our packages as the user; return the process that ended."""
    return subprocess.run([python_of_user(), "-c", code, *words], user=USER, group=USER,
                          extra_groups=list(groups), capture_output=True, text=True, check=False,
                          cwd="/", env=_environment() | variables)  # fmt: skip


@contextmanager
def folder_of_user() -> Iterator[Path]:
    """A folder that belongs to the user, where all may reach it."""
    place = Path(tempfile.mkdtemp(prefix="mutirao-test-", dir="/tmp"))
    shutil.chown(place, USER, USER)
    try:
        yield place
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)


def _environment() -> dict[str, str]:
    paths = [str(Path(__file__).parent.parent)]
    paths += [path for path in sys.path if path.endswith("site-packages")]
    return {"PYTHONPATH": ":".join(paths)}
