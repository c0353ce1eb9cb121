"""The bodies of requests about blobs and images.

Spec: specs/rpc.md#routes.
"""

from pydantic import BaseModel, ConfigDict, Field


class ImageRequest(BaseModel):
    """An image to import from a path of this machine that the daemon can read."""

    model_config = ConfigDict(extra="forbid", strict=True)
    path: str = Field(min_length=1)


class LinkRequest(BaseModel):
    """A file of this machine that is an input where it lies, as its caller sees it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    path: str = Field(min_length=1)
    device: int
    inode: int
    size: int = Field(ge=0)
    mtime_ns: int
    ctime_ns: int


class BuildRequest(BaseModel):
    """A folder with a Dockerfile on this machine, and the name of its image."""

    model_config = ConfigDict(extra="forbid", strict=True)
    path: str = Field(min_length=1)
    name: str = Field(min_length=1)
    dockerfile: str = Field("Dockerfile", description="Its path in the folder.")


class PullRequest(BaseModel):
    """An image to pull from a registry."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reference: str = Field(description="Such as python:3.12-slim, as Docker completes it.")
    platform: str = Field("", description="Such as linux/arm64; that of this machine by default.")
