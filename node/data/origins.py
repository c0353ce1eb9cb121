"""The public registries from which images were pulled: a small JSON file, replaced atomically.

Spec: specs/registries.md#providers.
"""

import json
import logging
from pathlib import Path
from typing import Final

import trio

from node.data.tags import replace_json
from protocol.values.bounded import keep_newest
from protocol.values.ids import Digest

LOG: Final = logging.getLogger(__name__)
ORIGINS_MAX: Final = 4096


class Origins:
    """Where images were pulled without credentials: registry and repository, by digest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sources = _load(path)

    def source_of(self, image: Digest) -> str:
        """Return registry and repository of an image, "" if none is known."""
        return self._sources.get(image.hex(), "")

    async def record(self, image: Digest, source: str) -> None:
        """Record where an image was pulled; StorageFull if the disk is full."""
        if self.source_of(image) == source:
            return
        self._sources.pop(image.hex(), None)
        self._sources[image.hex()] = source
        keep_newest(self._sources, ORIGINS_MAX)
        await trio.to_thread.run_sync(replace_json, self._path, dict(self._sources))


def _load(path: Path) -> dict[str, str]:
    """Return what is recorded; without it, providers get their images from this node."""
    try:
        document = json.loads(path.read_bytes())
        return {str(image): str(source) for image, source in document.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        LOG.warning("%s is damaged and is written anew", path)
        return {}
