"""Parses an image's OCI manifest and config, which are untrusted.

Both are JSON that a stranger wrote. Only the fields used here are read, and each is checked.

Spec: specs/data.md#images.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from node.data.blobs import BlobRef
from node.data.frames import SIZE_MAX
from protocol.values.errors import InvalidRequest
from protocol.values.ids import Digest

DOCUMENT_MAX: Final = 1024 * 1024
"""Maximum bytes of a manifest, an index or a config."""
LAYERS_MAX: Final = 128
STRINGS_MAX: Final = 1024
"""Maximum number of environment variables, of arguments and the like."""
OCI: Final = "application/vnd.oci.image"
DOCKER: Final = "application/vnd.docker"
MANIFEST_TYPE: Final = f"{OCI}.manifest.v1+json"
INDEX_TYPE: Final = f"{OCI}.index.v1+json"
CONFIG_TYPE: Final = f"{OCI}.config.v1+json"
LAYER_TYPE: Final = f"{OCI}.layer.v1.tar"
MANIFEST_TYPES: Final = frozenset({MANIFEST_TYPE, f"{DOCKER}.distribution.manifest.v2+json"})
INDEX_TYPES: Final = frozenset({INDEX_TYPE, f"{DOCKER}.distribution.manifest.list.v2+json"})
LAYER_TYPES: Final = {
    LAYER_TYPE: "tar",
    f"{LAYER_TYPE}+gzip": "gzip",
    f"{LAYER_TYPE}+zstd": "zstd",
    f"{DOCKER}.image.rootfs.diff.tar": "tar",
    f"{DOCKER}.image.rootfs.diff.tar.gzip": "gzip",
    f"{DOCKER}.image.rootfs.diff.tar.zstd": "zstd",
}
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""OCI's names of architectures where the kernel's differ."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """How one document of an image names a blob."""

    ref: BlobRef
    media_type: str
    platform: str = ""
    """Such as linux/amd64 or linux/arm/v7."""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: the blob, and the SHA-256 of its unpacked content."""

    ref: BlobRef
    packing: str
    diff_id: Digest

    def __str__(self) -> str:
        return f"sha256:{self.ref.digest.hex()[:12]}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of an image: config and layers, the lowest layer first."""

    config: BlobRef
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The container settings that the image suggests. They are data: the sandbox decides."""

    env: tuple[tuple[str, str], ...]
    working_dir: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    user: str
    volumes: tuple[str, ...]
    """Paths that Docker would put on the host's disk without limit; the engine never gets them."""
    platform: str
    created: str
    diff_ids: tuple[Digest, ...]


def own_platform() -> str:
    """Return the platform of images for this machine, such as linux/amd64."""
    machine = os.uname().machine
    return f"linux/{ARCHITECTURES.get(machine, machine)}"


def fits_platform(offered: str, wanted: str) -> bool:
    """Return whether an image's platform is the wanted one, or a variant of it."""
    return offered == wanted or offered.startswith(f"{wanted}/")


def media_type_of(data: bytes) -> str:
    """Return the media type of a manifest or an index; InvalidRequest if it is neither."""
    document = parse_object(data, "manifest")
    implied = INDEX_TYPE if "manifests" in document else MANIFEST_TYPE
    return _typed(document, "mediaType", str) or implied


def parse_manifest(data: bytes) -> Manifest:
    """Return the parts that a manifest names; InvalidRequest if it is malformed."""
    document = parse_object(data, "manifest")
    if document.get("schemaVersion") != 2 or "config" not in document:
        raise InvalidRequest("the manifest is not one of an OCI image")
    media_type = _typed(document, "mediaType", str) or MANIFEST_TYPE
    if media_type not in MANIFEST_TYPES:
        raise InvalidRequest(f"the manifest is of an unknown kind: {media_type!r:.80}")
    layers = _descriptors(_typed(document, "layers", list), LAYERS_MAX)
    for layer in layers:
        packing(layer)
    return Manifest(_descriptor(document["config"]).ref, layers)


def parse_index(data: bytes) -> tuple[Descriptor, ...]:
    """Return the manifests that an index names; InvalidRequest if it is malformed."""
    document = parse_object(data, "index")
    return _descriptors(_typed(document, "manifests", list), STRINGS_MAX)


def parse_config(data: bytes) -> ImageConfig:
    """Return what a config says; InvalidRequest if it is malformed."""
    document = parse_object(data, "config")
    wishes = _typed(document, "config", dict)
    rootfs = _typed(document, "rootfs", dict)
    diff_ids = _strings(rootfs, "diff_ids")
    return ImageConfig(
        env=tuple(_variable(entry) for entry in _strings(wishes, "Env")),
        working_dir=_typed(wishes, "WorkingDir", str),
        entrypoint=_strings(wishes, "Entrypoint"),
        cmd=_strings(wishes, "Cmd"),
        user=_typed(wishes, "User", str),
        volumes=tuple(sorted(str(path) for path in _typed(wishes, "Volumes", dict))),
        platform=_platform(document),
        created=_typed(document, "created", str)[:40],
        diff_ids=tuple(parse_digest(text) for text in diff_ids),
    )


def layers_of(manifest: Manifest, config: ImageConfig) -> tuple[Layer, ...]:
    """Combine manifest and config; InvalidRequest if they do not belong together."""
    if len(manifest.layers) != len(config.diff_ids):
        raise InvalidRequest("the manifest and the config of the image disagree on its layers")
    pairs = zip(manifest.layers, config.diff_ids, strict=True)
    return tuple(Layer(layer.ref, packing(layer), diff_id) for layer, diff_id in pairs)


def require_size(found: BlobRef, claimed: BlobRef) -> None:
    """Raise InvalidRequest if a part's size differs from its manifest."""
    if found.size != claimed.size:
        name = f"sha256:{claimed.digest.hex()[:12]}"
        raise InvalidRequest(
            f"the image is inconsistent: {name} has {found.size} bytes, its manifest says"
            f" {claimed.size}"
        )


def packing(layer: Descriptor) -> str:
    """Return how a layer is packed: "tar", "gzip" or "zstd"; InvalidRequest if not known."""
    if layer.media_type not in LAYER_TYPES:
        raise InvalidRequest(f"the image has a layer of an unknown kind: {layer.media_type!r:.80}")
    return LAYER_TYPES[layer.media_type]


def parse_json(data: bytes, what: str) -> object:
    """Return what JSON says; InvalidRequest if it is malformed, too large or too deep."""
    if len(data) > DOCUMENT_MAX:
        raise InvalidRequest(f"the {what} of the image has more than {DOCUMENT_MAX} bytes")
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"the {what} of the image is not JSON") from None
    return document


def parse_object(data: bytes, what: str) -> dict[str, object]:
    """Return a JSON object; InvalidRequest if it is anything else."""
    document = parse_json(data, what)
    if not isinstance(document, dict):
        raise InvalidRequest(f"the {what} of the image is not JSON object")
    return document


def parse_digest(text: object) -> Digest:
    """Return the digest that is written sha256:<64 hex>; InvalidRequest if it is not."""
    if isinstance(text, str):
        algorithm, _, name = text.partition(":")
        if algorithm == "sha256" and len(name) == 64 and set(name) <= set("0123456789abcdef"):
            return Digest(bytes.fromhex(name))
    raise InvalidRequest(f"the image has a malformed digest: {text!r:.100}")


def encode(document: dict[str, object]) -> bytes:
    """Return the JSON of a document that the node makes: equal documents have equal digests."""
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def manifest_of(config: BlobRef, layers: Sequence[Descriptor]) -> bytes:
    """Return the manifest of an image that the node makes."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _described(Descriptor(config, CONFIG_TYPE)),
            "layers": [_described(layer) for layer in layers],
        }
    )


def _described(descriptor: Descriptor) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": f"sha256:{descriptor.ref.digest.hex()}",
        "size": descriptor.ref.size,
    }


def _descriptors(entries: list[object], count_max: int) -> tuple[Descriptor, ...]:
    if len(entries) > count_max:
        raise InvalidRequest(f"the image has more than {count_max} parts")
    return tuple(_descriptor(entry) for entry in entries)


def _descriptor(entry: object) -> Descriptor:
    if not isinstance(entry, dict):
        raise InvalidRequest("the image names a part that is not a JSON object")
    size = entry.get("size")
    if type(size) is not int or not 0 <= size <= SIZE_MAX:
        raise InvalidRequest("the image has a part without a valid size")
    platform = _typed(entry, "platform", dict)
    annotations = _typed(entry, "annotations", dict)
    name = annotations.get("io.containerd.image.name")
    name = name or annotations.get("org.opencontainers.image.ref.name")
    return Descriptor(
        ref=BlobRef(parse_digest(entry.get("digest")), size),
        media_type=_typed(entry, "mediaType", str),
        platform=_platform(platform),
        name=name if isinstance(name, str) else "",
    )


def _typed(document: dict[str, object], key: str, kind: type[T]) -> T:
    """Return a field of a type, an empty one if it is absent or null."""
    value = document.get(key)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise InvalidRequest(f"the image has an invalid {key!r}")
    return value


def _platform(document: dict[str, object]) -> str:
    """Return the platform that a document names, "" if it names none."""
    parts = [document.get(key) for key in ("os", "architecture", "variant")]
    return "/".join(str(part) for part in parts if part)


def _strings(document: dict[str, object], key: str) -> tuple[str, ...]:
    values = _typed(document, key, list)
    if len(values) > STRINGS_MAX or not all(
        isinstance(value, str) and "\0" not in value for value in values
    ):
        raise InvalidRequest(f"the image has an invalid {key!r}")
    return tuple(values)


def _variable(entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not name or not equals:
        raise InvalidRequest(f"the image sets a malformed variable: {entry!r:.80}")
    return name, value
