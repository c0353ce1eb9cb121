"""Names of images: a small JSON file that is replaced atomically.

Spec: specs/data.md#names.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from node.data.disk import full_disk_as_storage_full, sync
from protocol.values.errors import InvalidRequest
from protocol.values.ids import Digest

NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}")
LOOKS_LIKE_DIGEST: Final = re.compile(r"(sha256:.*|[0-9a-f]{12,})")


def check_name(name: str) -> str:
    """Return the name; InvalidRequest if it is not a valid image name."""
    if not NAME.fullmatch(name) or LOOKS_LIKE_DIGEST.fullmatch(name):
        line = "use at most 255 letters, digits and ._/:@-, and not the form of a digest"
        raise InvalidRequest(f"{name!r:.80} is not an image name: {line}")
    return name


def load_tags(path: Path) -> dict[str, Digest]:
    """Return digests by name, none if there is no file; InvalidRequest if it is damaged."""
    try:
        document = json.loads(path.read_bytes())
        return {check_name(name): Digest(bytes.fromhex(text)) for name, text in document.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, InvalidRequest) as error:
        line = f"{path} is damaged: remove it; the images stay, only their names are lost"
        raise InvalidRequest(line) from error


def save_tags(path: Path, tags: dict[str, Digest]) -> None:
    """Replace the file as a whole; StorageFull if the disk is full."""
    replace_json(path, {name: digest.hex() for name, digest in tags.items()})


def replace_json(path: Path, document: Mapping[str, object]) -> None:
    """Replace a file by a document as a whole; StorageFull if the disk is full."""
    temporary = path.with_suffix(".new")
    text = json.dumps(document, indent=1)
    with full_disk_as_storage_full(path.parent):
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
