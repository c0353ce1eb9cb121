"""Builds an image from a Dockerfile with the Docker Engine of this machine, and saves it to a file.

The engine is the owner's own, and so is the Dockerfile: a build may do whatever the engine may.
Spec: specs/registries.md#build.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import trio

from node.data.disk import full_disk_as_storage_full
from node.sandbox.docker_engine import DockerEngine, one_line
from protocol.values.errors import InvalidRequest

CHUNK: Final = 1024 * 1024
Tell = Callable[[str], object]
"""Called with each line of the engine's output, in the thread that builds."""


async def build_image(folder: Path, dockerfile: str, target: Path, tell: Tell) -> None:
    """Build the image of a folder, and write it to a file as `docker save` does.

    InvalidRequest if folder or Dockerfile are wrong or the build fails; SandboxUnavailable if no
    engine answers.
    """
    if not (folder / dockerfile).is_file():
        raise InvalidRequest(f"{folder / dockerfile} is no file: name a Dockerfile with --file")
    engine = DockerEngine()
    await engine.ask(lambda: _build(engine, folder, dockerfile, target, tell))


def _build(engine: DockerEngine, folder: Path, dockerfile: str, target: Path, tell: Tell) -> None:
    client = engine.patient_client()
    try:
        steps = client.api.build(
            path=str(folder), dockerfile=dockerfile, rm=True, forcerm=True, decode=True
        )
        image = client.images.get(_followed(steps, tell))
        with full_disk_as_storage_full(target.parent), target.open("wb") as file:
            for chunk in image.save(CHUNK):
                trio.from_thread.check_cancelled()
                file.write(chunk)
    finally:
        client.close()


def _followed(steps: Iterator[dict[str, Any]], tell: Tell) -> str:
    """Report the steps of a build; return the id of its image."""
    image = error = ""
    for step in steps:  # To the end, which closes the connection.
        trio.from_thread.check_cancelled()
        error = step.get("error") or error
        image = (step.get("aux") or {}).get("ID", image)
        for line in str(step.get("stream") or step.get("status") or "").splitlines():
            if line.strip():
                tell(line.rstrip())
    if error or not image:
        raise InvalidRequest(f"the build failed: {one_line(error or 'it has no image')}")
    return image
