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
ROOT = Path(__file__).parent.parent
ENTER = ROOT / "tests/enter_as_user.py"


def run_as_user(code: str, *words: str, groups: tuple[int, ...] = (), **variables: str):
    """Run Python code with our packages as the user; return the process that ended."""
    return run_command_as_user(sys.executable, "-c", code, *words, groups=groups, **variables)


def run_command_as_user(*command: str, groups: tuple[int, ...] = (), **variables: str):
    """Run a command as the user, in the root of this project; return the process that ended."""
    entering = _entering(groups)
    able = _run([*entering, sys.executable, "-c", "import node, trio"], {})
    if able.returncode != 0:
        pytest.skip(f"another user cannot run our code here: {able.stderr.strip()[-200:]}")
    return _run([*entering, *command], variables)


@contextmanager
def folder_of_user() -> Iterator[Path]:
    """A folder that belongs to the user, where all may reach it."""
    place = Path(tempfile.mkdtemp(prefix="mutirao-test-", dir="/tmp"))
    shutil.chown(place, USER, USER)
    try:
        yield place
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)


def _entering(groups: tuple[int, ...]) -> list[str]:
    """Return the words before the command."""
    shown = ":".join({sys.base_prefix, sys.prefix, str(ROOT)})
    return [sys.executable, str(ENTER), str(USER), ",".join(map(str, groups)), shown]


def _run(command: list[str], variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ":".join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT,
                          env=environment | variables)  # fmt: skip
