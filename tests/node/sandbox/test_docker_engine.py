"""The connection to Docker Engine, when there is one and when there is none.

Spec: specs/sandbox.md#docker-driver.
"""

import time

import pytest
import trio

from node.sandbox.docker_engine import DockerEngine, engine_socket, one_line
from protocol.values.errors import SandboxUnavailable
from tests.node.sandbox.conftest import needs_engine


def test_the_usual_socket(monkeypatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert engine_socket() == "/var/run/docker.sock"


async def test_a_remote_engine_is_refused(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    engine = DockerEngine()
    with pytest.raises(SandboxUnavailable, match="Unix socket"):
        await engine.ask(engine.require)


async def test_an_engine_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    engine = DockerEngine()
    with pytest.raises(SandboxUnavailable, match=r"^Docker Engine: .*No such file"):
        await engine.ask(engine.client)
    engine.close()


async def test_who_is_cancelled_need_not_wait_for_the_engine():
    released, limiter = trio.Event(), trio.CapacityLimiter(1)

    def load() -> None:
        while not released.is_set():
            time.sleep(0.01)

    with trio.fail_after(10):
        with trio.move_on_after(0.01) as scope:
            await DockerEngine().ask(load, leave=limiter)
        assert scope.cancelled_caught
        assert limiter.borrowed_tokens == 1  # Its thread goes on.
        released.set()
        async with limiter:
            assert limiter.borrowed_tokens == 1


def test_a_complaint_is_one_short_line():
    assert one_line("a\n  b\t" + "x" * 999) == "a b " + "x" * 296


@pytest.mark.docker
@needs_engine
async def test_an_engine_that_will_do():
    engine = DockerEngine()
    await engine.ask(engine.require)
    engine.close()
    assert await engine.ask(lambda: engine.client().ping())
    engine.close()
