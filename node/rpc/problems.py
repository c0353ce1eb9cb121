"""Every error of the API is a problem document (RFC 9457) with the stable code of its error.

Spec: specs/rpc.md#errors.
"""

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from protocol.values.errors import (
    Conflict,
    DaemonUnavailable,
    InvalidRequest,
    NodeError,
    NotFound,
    StorageFull,
    Unavailable,
)

MEDIA_TYPE: Final = "application/problem+json"
INTERNAL: Final = "internal"
"""The code of an unexpected error: a bug in this program."""

STATUS_OF: Final[tuple[tuple[type[NodeError], HTTPStatus], ...]] = (
    # The first class that fits decides, so a class stands before its parent.
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (InvalidRequest, HTTPStatus.UNPROCESSABLE_ENTITY),
    (StorageFull, HTTPStatus.INSUFFICIENT_STORAGE),
    (DaemonUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (Unavailable, HTTPStatus.BAD_GATEWAY),
    (NodeError, HTTPStatus.BAD_GATEWAY),  # Such as a peer's fault.
)
CODE_OF_STATUS: Final[dict[int, str]] = {
    400: "invalid-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
}
"""The codes of the framework's own errors."""


class FieldProblem(BaseModel):
    """The error of one field of a request."""

    field: str
    detail: str


class Problem(BaseModel):
    """A problem document. `code` is for programs, `detail` is one line for people."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem] = []


def problem_of(error: NodeError) -> Problem:
    """Return the document of an expected error."""
    status = next(status for kind, status in STATUS_OF if isinstance(error, kind))
    code = getattr(error, "code", "unavailable")  # Inner classes of the tree have no code.
    return _problem(status, code, str(error))


def answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return the HTTP answer that carries the document."""
    return JSONResponse(problem.model_dump(), problem.status, headers, MEDIA_TYPE)


def too_large(bytes_max: int) -> Response:
    """Return the answer to a body that is too large."""
    return answer(_problem(HTTPStatus(413), "too-large", f"the body has over {bytes_max} bytes"))


def install(app: FastAPI) -> None:
    """Make the app answer every error with a problem document."""
    app.add_exception_handler(NodeError, _on_node_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_bug)


async def _on_node_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, NodeError)
    return answer(problem_of(error))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = CODE_OF_STATUS.get(status, "invalid-request")
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return answer(_problem(status, code, detail), dict(error.headers or {}))


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [_field_problem(line) for line in error.errors()]
    detail = "; ".join(f"{each.field}: {each.detail}" for each in found)
    problem = _problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", detail)
    return answer(problem.model_copy(update={"errors": found}))


async def _on_bug(_: Request, error: Exception) -> Response:
    # The framework raises the error again after this answer; the node stops (see server.py).
    detail = f"a bug in the node: {type(error).__name__}; see its log"
    return answer(_problem(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL, detail))


def _problem(status: HTTPStatus, code: str, detail: str) -> Problem:
    return Problem(title=status.phrase, status=status, code=code, detail=_line(detail))


def _field_problem(line: Any) -> FieldProblem:
    places = [str(place) for place in line["loc"][1:] if line["type"] != "json_invalid"]
    if places[:1] in (["job"], ["jobs"]):  # One of the two forms of POST /v1/jobs.
        places = places[1:]
    return FieldProblem(field=_line(".".join(places)) or "body", detail=_line(line["msg"]))


def _line(text: str) -> str:
    """Return the text as one line of valid UTF-8: JSON may contain lone surrogates."""
    return " ".join(text.encode("utf-8", "replace").decode().split())
