"""A job's log.

Spec: specs/sandbox.md#log.
"""

import os

from node.sandbox.runner.log_file import LogFile, drain_pipe


def test_the_log_is_cut_once(tmp_path):
    log = LogFile(str(tmp_path / "log"), 1)
    log.add(b"a" * (1 << 20))
    assert not log.full
    log.add(b"b")
    log.add(b"c")
    assert log.full
    log.close()
    text = (tmp_path / "log").read_text()
    assert text == "a" * (1 << 20) + "\n… log truncated at 1 MiB\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_costs_the_log_alone(tmp_path):
    log = LogFile(str(tmp_path / "log"), 1)
    log.add(b"kept")
    assert (log.full, log.fault) == (False, "")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log.descriptor)
    os.close(full)
    log.add(b"lost")
    log.say("lost too")
    assert (log.full, log.fault) == (True, "No space left on device")
    log.close()


def test_our_own_lines_stand_alone(tmp_path):
    log = LogFile(str(tmp_path / "log"), 1)
    log.say("first")
    log.add(b"one\ntwo")
    assert log.last_line() == "two"
    log.say("last")
    log.close()
    assert (tmp_path / "log").read_text() == "mutirao: first\none\ntwo\nmutirao: last\n"


def test_the_end_of_a_long_line_is_remembered(tmp_path):
    log = LogFile(str(tmp_path / "log"), 1)
    assert log.last_line() == ""
    for _ in range(3):
        log.add(b"a" * 3000)
    log.add(b"z\n\n")
    assert log.last_line().endswith("aaz")
    assert len(log.last_line()) < 4096
    log.close()


def test_a_pipe_is_drained_until_its_writers_are_gone():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    sink = os.open("/dev/null", os.O_WRONLY)
    os.write(writer, b"x" * 1000)
    assert drain_pipe(reader, sink)
    assert drain_pipe(reader, sink)  # Empty, but somebody may write.
    os.close(writer)
    assert not drain_pipe(reader, sink)
    os.close(reader)
    os.close(sink)
