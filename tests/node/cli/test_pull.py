"""A pull that the user watches or leaves. Spec: specs/registries.md#command-line."""

import pytest

from node.cli.failure import CliError
from node.cli.pull import pull
from tests.node.rpc.recorded_images import BASE


class StoppedNode:
    """A node that stops in the middle of its answer."""

    def lines(self, path, body):
        assert (path, body) == ("/images/pull", {"reference": "a", "platform": ""})
        yield {
            "found": {"reference": "docker.io/library/a:latest", "digest": BASE, "platform": "x"}
        }
        yield {"progress": {"done": 1, "total": 2}}


def test_an_answer_without_an_end(capsys):
    with pytest.raises(CliError) as caught:
        pull(StoppedNode(), "a", "", as_json=False)
    assert (caught.value.code, caught.value.hint) == (
        "daemon-unavailable",
        "pull again: it continues",
    )
    assert capsys.readouterr().err == f"docker.io/library/a:latest is sha256:{BASE} (x)\n"
