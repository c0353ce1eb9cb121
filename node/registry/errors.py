"""Why an image cannot be pulled. Each is one line that says what to do next.

Spec: specs/registries.md#errors.
"""

from protocol.values.errors import InvalidRequest, NotFound, Unavailable


class RegistryUnavailable(Unavailable):
    """A registry does not answer, answers with an error of its own, or limits pulls."""

    code = "registry-unavailable"


class RegistryLied(Unavailable):
    """A registry sent bytes that do not have the digest or the size that were asked for."""

    code = "registry-lied"


class ReferenceNotFound(NotFound):
    """A registry has no such repository, tag or digest."""

    code = "reference-not-found"


class RegistryDenied(InvalidRequest):
    """A registry requires other credentials, or the repository does not exist."""

    code = "registry-denied"


class PlatformMismatch(InvalidRequest):
    """An image has no variant for the platform."""

    code = "platform-mismatch"
