"""Every error is a problem document. Spec: specs/rpc.md#errors."""

import json
import re
from pathlib import Path

import pytest

from node.rpc.problems import CODE_OF_STATUS, STATUS_OF, answer, problem_of, too_large
from protocol.values import errors
from protocol.values.ids import PeerId
from tests.node.rpc.conftest import JOB

SPEC = Path(__file__).parents[3] / "specs" / "rpc.md"


@pytest.mark.parametrize(
    "kind,status",
    [
        (errors.NotFound, 404),
        (errors.Conflict, 409),
        (errors.InvalidRequest, 422),
        (errors.StorageFull, 507),
        (errors.BlobUnavailable, 502),
        (errors.SandboxUnavailable, 502),
        (errors.DaemonUnavailable, 503),
        (errors.Stale, 502),
    ],
)
def test_status_and_code(kind, status):
    problem = problem_of(kind("why\nso"))
    assert (problem.status, problem.code, problem.detail) == (status, kind.code, "why so")


def test_a_peers_fault_and_an_error_without_a_code():
    fault = problem_of(errors.BadSignature(PeerId("p"), "bad"))
    assert (fault.status, fault.code, fault.detail) == (502, "bad-signature", "p: bad")
    assert problem_of(errors.Unavailable("x")).code == "unavailable"


def test_the_table_is_in_order():
    for place, (kind, _) in enumerate(STATUS_OF):
        assert not any(issubclass(kind, before) for before, _ in STATUS_OF[:place])


def test_answers_have_the_media_type():
    response = answer(problem_of(errors.NotFound("x")))
    assert response.media_type == "application/problem+json"
    assert json.loads(too_large(7).body)["code"] == "too-large"


async def ask_badly(caller, case):
    match case:
        case "no-route":
            return await caller.ask("GET", "/v1/nothing")
        case "no-method":
            return await caller.ask("DELETE", "/v1/jobs")
        case "no-json":
            return await caller.ask("POST", "/v1/jobs", b"{", content_type="application/json")
        case "no-body":
            return await caller.ask("POST", "/v1/jobs")
        case "wrong-field":
            return await caller.ask("POST", "/v1/jobs", JOB | {"cpu": 2, "gpus": "x"})
        case "wrong-query":
            return await caller.ask("GET", "/v1/jobs?limit=0")
        case "unknown-job":
            return await caller.ask("GET", "/v1/jobs/abcdef")


@pytest.mark.parametrize(
    "case,status,code,detail",
    [
        ("no-route", 404, "not-found", "GET /v1/nothing: Not Found"),
        ("no-method", 405, "method-not-allowed", "DELETE /v1/jobs"),
        ("no-json", 422, "invalid-request", "body: "),
        ("no-body", 422, "invalid-request", "body: Field required"),
        ("wrong-field", 422, "invalid-request", "cpu: "),
        ("wrong-query", 422, "invalid-request", "limit: "),
        ("unknown-job", 404, "not-found", "no job 'abcdef'"),
    ],
)
async def test_the_frameworks_own_errors_are_problems_too(caller, case, status, code, detail):
    found = await ask_badly(caller, case)
    assert found.status == status
    assert found.headers["content-type"] == "application/problem+json"
    assert (found.json["status"], found.json["code"]) == (status, code)
    assert detail in found.json["detail"]
    assert "\n" not in found.json["detail"]
    assert case != "no-method" or found.headers["allow"]
    assert case != "wrong-field" or {each["field"] for each in found.json["errors"]} == {
        "cpu",
        "gpus",
    }


def test_the_spec_lists_every_status_and_code():
    section = SPEC.read_text().split("## Errors")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| `([a-z-]+)`", section, re.MULTILINE)
    listed = {(int(status), code) for status, code in rows}
    own = {(int(status), kind.code) for kind, status in STATUS_OF if hasattr(kind, "code")}
    assert own | {*CODE_OF_STATUS.items()} <= listed
