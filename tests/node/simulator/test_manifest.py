"""A manifest says how to make a run again, and readers refuse what they do not know.

Spec: specs/simulation-results.md#manifest.
"""

import hashlib
import json
import re
import subprocess
from dataclasses import replace

import pytest

import node
from node.simulator import manifest as manifests
from node.simulator.manifest import RunDone, commit_of, manifest_of
from protocol.values.errors import InvalidRequest, NotFound

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")


def made(**changes):
    done = RunDone("study", 7, "flow", '{"nodes": 40}', 2, 99, "d1", "a", "b", {"y": 1, "x": "1h"})
    return manifest_of(replace(done, **changes))


def test_it_says_what_makes_the_same_run():
    found = made()
    assert (found["name"], found["tier"], found["seed"]) == ("study", "flow", 7)
    assert (found["repetition"], found["complete"]) == (2, True)
    assert found["scenario"] == '{"nodes": 40}'
    assert found["scenario_sha256"] == hashlib.sha256(b'{"nodes": 40}').hexdigest()
    assert list(found["parameters"].items()) == [("x", "1h"), ("y", 1)]
    assert (found["events"], found["digest"]) == (99, "d1")
    assert (found["code"], found["tick_us"]) == (node.VERSION, 100)
    assert (found["started"], found["finished"]) == ("a", "b")
    assert json.loads(manifests.encode(found)) == found


def test_only_the_wall_clock_differs_between_equal_runs():
    one, other = made(), made(started="c", finished="d")
    assert {key for key in one if one[key] != other[key]} == {"started", "finished"}


def test_it_is_read_as_it_was_written(tmp_path):
    found = made(complete=False)
    (tmp_path / "manifest.json").write_bytes(manifests.encode(found))
    assert manifests.read(tmp_path) == found


def test_another_version_is_refused_in_one_line(tmp_path):
    (tmp_path / "manifest.json").write_bytes(manifests.encode({**made(), "format": 2, "code": "9"}))
    with pytest.raises(InvalidRequest) as refused:
        manifests.read(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}/manifest.json is of format 2, and this program reads format 1"
        " (it was written by version 9)"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"name": "x"}', "\udcff"])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text, errors="surrogateescape")
    with pytest.raises(InvalidRequest, match="is no manifest of a run"):
        manifests.read(tmp_path)


def test_a_folder_without_one_is_no_run(tmp_path):
    with pytest.raises(NotFound, match=re.escape(f"{tmp_path} has no manifest.json")):
        manifests.read(tmp_path)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(InvalidRequest, match="Is a directory"):
        manifests.read(tmp_path)


def test_the_commit_is_that_of_git(tmp_path):
    def git(*command):
        done = subprocess.run([*GIT, *command], cwd=tree, check=True, capture_output=True)
        return done.stdout.decode().strip()

    tree = tmp_path / "tree"
    tree.mkdir()
    assert commit_of(tree) is None
    git("init")
    assert commit_of(tree) is None
    git("commit", "--allow-empty", "-m", "x")
    commit = git("rev-parse", "HEAD")
    assert commit_of(tree) == commit
    git("worktree", "add", "../other", "-b", "other")
    assert commit_of(tmp_path / "other") == commit
    git("pack-refs", "--all")
    assert commit_of(tree) == commit
    git("checkout", "--detach")
    assert commit_of(tree) == commit
