"""Pulls the public image of a job from its registry, if this node's owner allows that registry.

It is anonymous: a stranger's job never uses the owner's credentials. Whatever fails here, the
requester still has the image.
Spec: specs/registries.md#providers.
"""

import logging
from collections.abc import Callable
from typing import Final

import trio

from node.data.manifest import parse_manifest
from node.provider.execution_context import ExecutionContext
from node.registry.client import RegistryClient
from node.registry.pull import RemoteImage, pull
from node.registry.reference import Reference
from protocol.values.errors import BlobUnavailable, InvalidRequest, NodeError
from protocol.wire.job import Workload

LOG: Final = logging.getLogger(__name__)
ANSWER_S: Final = 5
"""How long a registry may send nothing: the requester waits to see progress."""


async def pull_public(
    context: ExecutionContext, workload: Workload, owner: str, note: Callable[[int], object]
) -> None:
    """Pull what is missing of a job's image, pinned for an owner, or leave it to the requester.

    `note` gets the bytes that are here.
    """
    if not workload.registry or await _is_here(context, workload):
        return
    try:
        reference = Reference.parse(f"{workload.registry}@sha256:{workload.image.hex()}")
        if reference.registry not in context.registries:
            return
        await _pull(context, workload, reference, owner, note)
    except NodeError as error:
        LOG.info("the image comes from the requester: %s", error)


async def _pull(
    context: ExecutionContext, workload: Workload, reference: Reference, owner: str,
    note: Callable[[int], object],
) -> None:  # fmt: skip
    async def report(done: int, _total: int) -> None:
        await trio.lowlevel.checkpoint()
        note(done)

    client = RegistryClient(reference, attempts=1, answer_s=ANSWER_S)
    try:
        data = await client.manifest(reference.version)
        manifest = parse_manifest(data)
        size = sum(ref.size for ref in {manifest.config, *(one.ref for one in manifest.layers)})
        if size + len(data) > workload.image_bytes:
            raise InvalidRequest("the image is larger than the job declares")
        await pull(client, context.blobs, RemoteImage(reference, "", data), owner, report)
    finally:
        await client.close()


async def _is_here(context: ExecutionContext, workload: Workload) -> bool:
    try:
        return not await context.images.missing(workload.image)
    except BlobUnavailable:
        return False
