"""Terminals, input devices and load, in folders of the test. Spec: specs/owner.md#idle."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.owner.activity import OwnerActivity


@pytest.fixture
def activity(tmp_path: Path) -> Iterator[OwnerActivity]:
    for folder in ("dev/pts", "dev/input/by-path", "proc"):
        (tmp_path / folder).mkdir(parents=True)
    found = OwnerActivity(tmp_path / "dev", tmp_path / "proc")
    yield found
    found.close()


def test_the_newest_use_of_a_terminal_counts(activity: OwnerActivity, tmp_path: Path) -> None:
    assert activity.last_used_s(1_000) == 0
    for name, used_s in (("pts/0", 700), ("tty1", 400), ("pts/ptmx", 900), ("tty", 900)):
        (tmp_path / "dev" / name).touch()
        os.utime(tmp_path / "dev" / name, (used_s, 950))
    assert activity.last_used_s(1_000) == 700, "written to at 950, read at 700"
    (tmp_path / "dev/pts/0").unlink()
    assert activity.last_used_s(1_000) == 700
    os.utime(tmp_path / "dev/tty1", (5_000, 5_000))
    assert activity.last_used_s(1_000) == 1_000, "a clock that was set back"


def test_an_event_of_a_keyboard_is_a_use_and_an_unplugged_one_is_none(
    activity: OwnerActivity, tmp_path: Path
) -> None:
    keyboard = tmp_path / "dev/input/by-path/usb-event-kbd"
    os.mkfifo(keyboard)
    fingers = os.open(keyboard, os.O_RDWR)
    try:
        assert activity.last_used_s(1_000) == 0
        os.write(fingers, b"x" * 10_000)
        assert activity.last_used_s(1_001) == 1_001
        assert activity.last_used_s(1_002) == 1_001
    finally:
        os.close(fingers)
    keyboard.unlink()
    assert activity.last_used_s(1_003) == 1_001


def test_what_else_uses_the_machine_is_remembered(activity: OwnerActivity) -> None:
    activity.note_used(500)
    assert activity.last_used_s(1_000) == 500


def test_the_processors_of_jobs_are_not_the_owners(activity: OwnerActivity, tmp_path: Path) -> None:
    hertz = os.sysconf("SC_CLK_TCK")

    def used(seconds: float, lent_cpus: int, now_s: float) -> int:
        ticks = round(seconds * hertz)
        line = f"cpu  {ticks} 0 0 99999 5 0 0 7 0 0\ncpu0 1 2 3\n"
        (tmp_path / "proc/stat").write_text(line)
        return round(activity.processors_of_others(lent_cpus, now_s))

    assert activity.processors_of_others(0, 1) == 0, "unknown"
    assert used(1_000, 8, 10) == 1_000 // 9 - 8
    assert used(1_040, 8, 20) == 0
    assert used(1_140, 8, 30) == 2
    assert used(1_220, 0, 40) == 0, "the jobs may have ended a moment ago"
    assert used(1_250, 0, 50) == 3
    assert used(1_300, 0, 50) == 0, "no time has passed"
