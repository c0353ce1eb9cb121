"""The loop that watches a container, with a container made of pipes.

Spec: specs/sandbox.md#runner.
"""

import os

import pytest

from node.sandbox.runner import records, supervise
from node.sandbox.runner.container import Container, Usage
from node.sandbox.runner.records import Fields


class Fake(Container):
    def __init__(self, out):
        self.log_source, self.log = os.pipe()
        self.exit_source, self.alive = os.pipe()
        self.code, self.killed, self.out, self.broken = None, False, out, None
        self.oom = False
        self.stays, self.paused, self.pauses = True, False, 0
        self.resumes = [True, True, False]  # Whether it is still paused: it does not go on at once.

    def read_log(self):
        return os.read(self.log_source, 65536) or None

    def drain_log(self):
        return bool(os.read(self.log_source, 65536))

    def exit_code(self):
        return self.code

    def excess(self):
        return self.broken

    def members(self):
        return []

    def pause(self):
        self.paused, self.pauses = self.stays, self.pauses + 1
        return self.stays

    def resume(self):
        self.paused = self.resumes.pop(0)
        return not self.paused

    def terminate(self):
        self.code = 143

    def kill(self):
        self.killed, self.code = True, 137

    def usage(self):
        return Usage(5, 6, self.oom)

    def complaint(self, line):
        return line.removeprefix("bwrap: ") if line.startswith("bwrap: ") else ""

    def outputs(self):
        return os.open(self.out, os.O_RDONLY)

    def close(self):
        for descriptor in (self.log_source, self.exit_source, self.alive):
            os.close(descriptor)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    return Fake(tmp_path / "there")


def watch(fake, control=None, **numbers):
    fields = {"timeout_ms": 60_000, "log_mib": 1, "output_mib": 1, "memory_mib": 64} | numbers
    pairs = [(key, str(value)) for key, value in fields.items()]
    return supervise.Watch(fake, Fields(pairs), os.pipe()[0] if control is None else control)


def run(fake, **fields):
    supervise.supervise(watch(fake, **fields))
    return records.read(records.RESULT)


def test_an_exit_with_log_and_outputs(fake, tmp_path):
    (tmp_path / "there" / "x").write_text("data")
    os.write(fake.log, b"hello")
    os.close(fake.log)
    fake.code = 0
    result = run(fake)
    assert (result.number("exit_code", 9), result.one("reason")) == (0, "exited")
    assert (result.number("cpu_ms"), result.number("memory_peak_mib")) == (5, 6)
    assert (tmp_path / "log").read_text() == "hello"
    assert (tmp_path / "outputs" / "x").read_text() == "data"


def test_a_time_out(fake):
    result = run(fake, timeout_ms=50)
    assert fake.killed
    assert result.one("reason") == "timeout"
    assert "0.05 s" in result.one("detail")


def test_a_budget_counts_from_the_start(fake):
    records.write(records.BUDGET, [("ms", "50")])
    assert run(fake).one("reason") == "budget"


def budget(milliseconds):
    records.write(records.BUDGET, [("ms", str(milliseconds))])


def test_a_container_beyond_its_budget_is_paused_until_the_budget_grows(fake, monkeypatch):
    """While it is paused its time stands still."""
    clock = iter(range(0, 10**9, 100))
    monkeypatch.setattr(supervise, "now_ms", lambda: next(clock))
    budget(1000)
    watched = watch(fake, pause_ms=10_000)
    looked = []

    def look():
        looked.append((fake.paused, watched.age_ms()))
        if len(looked) == 30:
            assert fake.paused
            budget(2000)
        elif len(looked) > 30 and not fake.paused:
            fake.code = 0
        return

    fake.excess = look
    os.close(fake.log)
    supervise.supervise(watched)
    result = records.read(records.RESULT)
    assert (result.one("reason"), fake.killed) == ("exited", False)
    ages = {age for paused, age in looked if paused}
    assert len(ages) == 1
    assert result.number("usage_ms") < ages.pop() + 1000
    assert fake.pauses > 5  # It is looked after as long as it must not run.


def test_a_container_waits_no_longer_than_it_may(fake):
    budget(50)
    result = run(fake, pause_ms=200)
    assert (result.one("reason"), fake.killed) == ("budget", True)
    assert result.number("usage_ms") < 200
    assert fake.pauses > 1


def test_a_container_that_ends_as_it_is_to_be_paused_ended_by_itself(fake):
    budget(50)
    fake.pause = lambda: setattr(fake, "code", 7)  # An engine cannot pause what has exited.
    result = run(fake, pause_ms=10_000)
    assert (result.one("reason"), result.number("exit_code")) == ("exited", 7)
    assert not fake.killed


def test_a_container_that_cannot_be_paused_ends(fake):
    budget(50)
    fake.stays = False
    assert run(fake, pause_ms=3_600_000).one("reason") == "budget"
    assert fake.pauses == 1


def test_a_word_from_the_daemon_kills(fake):
    control, daemon = os.pipe()
    os.write(daemon, b"bk")
    assert run(fake, control=control).one("reason") == "killed"


def test_a_word_from_the_daemon_terminates(fake):
    words, daemon = os.pipe()
    os.write(daemon, b"t")
    supervise.supervise(watch(fake, words))
    result = records.read(records.RESULT)
    assert (result.number("exit_code"), result.one("reason")) == (143, "exited")
    assert not fake.killed


def test_a_broken_limit_kills(fake):
    fake.broken = ("disk", "too much")
    result = run(fake)
    assert (result.one("reason"), result.one("detail")) == ("disk", "too much")
    assert fake.killed


def test_memory_is_told_from_other_deaths(fake):
    fake.code, fake.oom = 137, True
    assert run(fake).one("reason") == "memory"


def test_signals_and_missing_commands_are_told(fake, tmp_path):
    fake.code = 139
    assert "signal 11" in run(fake).one("detail")


def say(fake, text, code=1):
    os.write(fake.log, text.encode())
    os.close(fake.log)
    fake.code = code


def test_bwraps_last_word_is_the_detail(fake):
    say(fake, "bwrap: Can't chdir to /nowhere: No such file or directory\n")
    result = run(fake)
    assert (result.number("exit_code"), result.one("reason")) == (1, "exited")
    assert result.one("detail") == "Can't chdir to /nowhere: No such file or directory"


@pytest.mark.parametrize(
    "complaint, code, line",
    [
        ("execvp sh\x1b: No such file or directory", 127, "sh\\x1b: not found in the image"),
        ("exec sh\x1b failed: Permission denied", 126, "sh\\x1b: Permission denied"),
    ],
)
def test_a_command_that_was_not_executed(fake, tmp_path, complaint, code, line):
    say(fake, f"bwrap: {complaint}\n")
    result = run(fake, command="sh\x1b")
    assert (result.number("exit_code"), result.one("reason")) == (code, "exited")
    assert result.one("detail") == line
    assert (tmp_path / "log").read_text().endswith(f"\nmutirao: {line}\n")


def test_another_program_that_was_not_executed_is_the_jobs_own_affair(fake):
    say(fake, "bwrap: execvp other: No such file or directory\n")
    assert run(fake, command="sh").number("exit_code") == 1


def test_what_is_left_out_is_said_in_the_log(fake, tmp_path):
    for number in range(12):
        (tmp_path / "there" / f"{number:02}").symlink_to("x")
    say(fake, "no newline", code=0)
    assert len(run(fake).every("refused")) == 12
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == "no newline"
    assert lines[1].startswith("mutirao: not in the outputs: 00: a symbolic link; 01: ")
    assert lines[1].endswith("; 09: a symbolic link; and 2 more")


def test_what_is_left_out_is_counted_beyond_what_is_listed(fake, tmp_path):
    for number in range(1000):
        (tmp_path / "there" / f"{number:04}").symlink_to("x")
    fake.code = 0
    assert len(run(fake).every("refused")) == 100
    assert (tmp_path / "log").read_text().endswith("; 0009: a symbolic link; and 990 more\n")


@pytest.mark.parametrize("text", ["hello", "bwrap: execvp sh: No such file or directory\n"])
def test_a_full_disk_ends_in_a_result(fake, text):
    """Whether it is full for the job's own lines or for ours."""
    watched = watch(fake, command="sh")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, watched.log.descriptor)
    os.close(full)
    say(fake, text, code=7)
    supervise.supervise(watched)
    result = records.read(records.RESULT)
    assert result.one("reason") == "failed"
    assert result.one("detail") == "the log could not be stored: No space left on device"


def test_outputs_that_cannot_be_kept(fake, tmp_path):
    (tmp_path / "outputs").write_text("in the way")
    fake.code = 0
    assert run(fake).one("reason") == "failed"
