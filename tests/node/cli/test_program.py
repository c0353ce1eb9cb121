"""The program as a process: help, usage, imports, endings. Spec: specs/rpc.md#command-line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from node.cli.program import program, run
from tests.node.cli.conftest import ROOT, environment, run_cli, start_cli

SPEC = Path(__file__).parents[3] / "specs" / "rpc.md"
HEAVY = {
    "trio", "libp2p", "pydantic", "fastapi", "rich", "hypercorn", "multiaddr", "msgpack", "ssl",
    "email", "http",
}  # fmt: skip


def commands(group=program, path=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        yield (*path, name), command


@pytest.mark.parametrize("path,command", [*commands()], ids=str)
def test_every_command_has_help_with_an_example_and_json(path, command, capsys):
    assert run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert "mutirao" in text.split("Example")[1]
    assert isinstance(command, click.Group) or "--json" in text
    assert "\b" not in text  # click's mark, misplaced.


def test_json_help_says_whether_it_is_one_object_or_one_a_line(capsys):
    for path, command in commands():
        run([*path, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        if not isinstance(command, click.Group):
            about = text.split("--json ")[-1].split(" -h, ")[0]
            assert "one object per line" in about or "one JSON object" in about, path


def test_the_spec_lists_every_command():
    section = SPEC.read_text().split("## Command line")[1].split("###")[0]
    listed = re.findall(
        r"`([a-z-]+(?: [a-z-]+)?)", "".join(re.findall(r"^\| (.*?) \|", section, re.MULTILINE))
    )
    names = {" ".join(path) for path, _ in commands()} - {"image", "simulate"}
    assert names <= {*listed}


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--json"], ["--version"], ["config"]])
def test_it_starts_without_the_heavy_libraries(daemon, arguments):
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "node", *arguments],
        capture_output=True, text=True, check=True, cwd=ROOT, env=environment(daemon.socket),
    )  # fmt: skip
    imported = {line.split("|")[-1].strip().split(".")[0] for line in found.stderr.splitlines()}
    assert "click" in imported
    assert not imported & HEAVY


@pytest.mark.parametrize(
    "arguments,why,hint",
    [
        (["statsu"], "No such command 'statsu'. Did you mean 'status'?", "`mutirao --help`"),
        (["rum"], "Did you mean 'run'?", "`mutirao --help`"),
        (["zzz"], "No such command 'zzz'.", "`mutirao --help`"),
        (["image", "zzz"], "No such command 'zzz'.", "`mutirao image --help`"),
        (["--data", "x", "peers"], "'--data'", "come after the command, as in `mutirao peers "),
        (["run"], "Missing argument 'IMAGE'", "`mutirao run --help`"),
        (["run", "base"], "Missing argument 'COMMAND...'", "`mutirao run --help`"),
        (["run", "base", "ls", "-l"], "No such option", "come after --"),
        (["run", "--memory", "x", "base", "ls"], "'x' is not a size", "`mutirao run --help`"),
    ],
)
def test_usage_errors_are_one_line_and_what_to_do(capsys, arguments, why, hint):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert why in first
    assert hint in second


@pytest.mark.parametrize(
    "arguments,usage",
    [
        ([], "Usage: mutirao "),
        (["help"], "Usage: mutirao "),
        (["image"], "Usage: mutirao image "),
        (["help", "image"], "Usage: mutirao image "),
        (["help", "image", "list"], "Usage: mutirao image list "),
    ],
)
def test_whoever_says_too_little_gets_the_help(capsys, arguments, usage):
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith(usage)
    assert "Example" in out
    assert err == ""


def test_failures_as_json_on_stderr(capsys, tmp_path):
    assert run(["status", "--json", "--socket", str(tmp_path / "s")]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["error"]["code"] == "daemon-unavailable"
    # The job's own --json is none of ours.
    assert run(["run", "--socket", str(tmp_path / "s"), "base", "--", "x", "--json"]) == 3
    assert capsys.readouterr().err.startswith("error: ")


def test_version_and_module(tmp_path):
    assert run_cli("--version").out == "0.1.0\n"
    assert run_cli("version", "--json", cwd=tmp_path).json == {"version": "0.1.0", "protocol": 1}


def test_a_reader_that_leaves_is_no_noise(daemon):
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = start_cli("status", socket=daemon.socket, stdout=write_end)
    os.close(write_end)
    _, err = process.communicate()
    assert (process.returncode, err) == (1, b"")


def test_a_full_disk_under_the_output_is_one_clear_line():
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "node", "config"]
        ran = subprocess.run(
            command, check=False, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ran.returncode == 5
    assert ran.stderr == "error: no space is left for the output\n  free some space\n"
