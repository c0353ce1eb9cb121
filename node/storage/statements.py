"""The SQL statements of the journal; a test asks SQLite which index each of them uses.

Columns are in the order of the fields of the rows in node/storage/journal.py.
Spec: specs/storage.md#schema.
"""

from typing import Final

ADD_JOB: Final = (
    "INSERT INTO jobs (job_id, state, data, created_ms, key, place) VALUES (?, ?, ?, ?, ?, ?)"
)
UPDATE_JOB: Final = "UPDATE jobs SET state = ?, data = ? WHERE job_id = ? RETURNING number"
FORGET_JOB: Final = "DELETE FROM jobs WHERE job_id = ?"
HAS_JOB: Final = "SELECT 1 FROM jobs WHERE job_id = ?"
OPEN_JOBS: Final = (
    "SELECT job_id, state, data, created_ms FROM jobs WHERE state = 'open' ORDER BY number"
)
JOBS_BETWEEN: Final = (
    "SELECT job_id, state, data, created_ms FROM jobs WHERE job_id BETWEEN ? AND ? LIMIT ?"
)
STATES_BETWEEN: Final = (
    "SELECT job_id, state FROM jobs WHERE job_id BETWEEN ? AND ? ORDER BY job_id"
)
JOBS_AFTER: Final = (
    "SELECT number, job_id, state, data, created_ms FROM jobs WHERE number > ?"
    " ORDER BY number LIMIT ?"
)
JOB_OF_KEY: Final = (
    "SELECT job_id, state, data, created_ms FROM jobs WHERE key = ? AND key != x'' LIMIT 1"
)
JOBS_BY_STATE: Final = "SELECT state, count(*) FROM jobs GROUP BY state"
NEWEST_JOBS: Final = (
    "SELECT job_id, state, data, created_ms FROM jobs WHERE place = 0 ORDER BY number DESC LIMIT ?"
)
JOBS_BEFORE: Final = (
    "SELECT job_id, state, data, created_ms FROM jobs"
    " WHERE place = 0 AND number < (SELECT number FROM jobs WHERE job_id = ?)"
    " ORDER BY number DESC LIMIT ?"
)

ADD_EVENT: Final = (
    "INSERT INTO job_events (job_id, seq, at_ms, kind, detail)"
    " SELECT ?1, coalesce(max(seq), 0) + 1, ?2, ?3, ?4 FROM job_events WHERE job_id = ?1"
    " RETURNING seq"
)
EVENTS: Final = (
    "SELECT job_id, seq, at_ms, kind, detail FROM job_events"
    " WHERE job_id = ? AND seq > ? ORDER BY seq"
)
ENDS_BETWEEN: Final = (
    "SELECT job_id, at_ms, kind, json_extract(detail, '$.exit_code'),"
    " json_extract(detail, '$.reason'), coalesce(json_extract(detail, '$.why'),"
    " json_extract(detail, '$.detail')), json_extract(detail, '$.amount') FROM job_events"
    " WHERE job_id BETWEEN ? AND ? AND kind IN ('retry', 'done', 'failed') ORDER BY job_id, seq"
)
FORGET_EVENTS: Final = "DELETE FROM job_events WHERE job_id = ?"

ADD_ANSWER: Final = "INSERT INTO answers (call_id, state, data) VALUES (?, ?, ?)"
UPDATE_ANSWER: Final = "UPDATE answers SET state = ?, data = ? WHERE call_id = ? RETURNING number"
FORGET_ANSWERS: Final = "DELETE FROM answers WHERE number <= (SELECT max(number) FROM answers) - ?"
ANSWERS: Final = "SELECT data FROM answers ORDER BY number DESC LIMIT ?"
ANSWERS_IN: Final = "SELECT data FROM answers WHERE state = ? ORDER BY number"

WRITE_MACHINE: Final = (
    "INSERT INTO machines (kind, key, state, data) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (kind, key) DO UPDATE SET state = excluded.state, data = excluded.data"
)
FORGET_MACHINE: Final = "DELETE FROM machines WHERE kind = ? AND key = ?"
MACHINES: Final = "SELECT key, state, data FROM machines WHERE kind = ? ORDER BY key"

WRITE_RECEIPT: Final = (
    "INSERT INTO receipts"
    " (lease_id, role, peer, usage_ms, amount, at_ms, proposal, countersign, voucher)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (lease_id, role) DO UPDATE SET peer = excluded.peer,"
    " usage_ms = excluded.usage_ms, amount = excluded.amount, at_ms = excluded.at_ms,"
    " proposal = excluded.proposal, countersign = excluded.countersign,"
    " voucher = excluded.voucher"
)
RECEIPTS: Final = (
    "SELECT lease_id, role, peer, usage_ms, amount, at_ms, proposal, countersign, voucher"
    " FROM receipts ORDER BY at_ms DESC, rowid DESC LIMIT ?"
)
SETTLED: Final = (
    "SELECT peer, iif(role = 'provider', usage_ms, 0) FROM receipts"
    " WHERE length(countersign) > 0 ORDER BY at_ms DESC, rowid DESC LIMIT ?"
)
TOTALS: Final = "SELECT role, high, low FROM totals"

ADD_MESSAGE: Final = (
    "INSERT INTO outbox (peer, envelope, until_ms) VALUES (?, ?, ?) RETURNING number"
)
OUTBOX: Final = "SELECT number, peer, envelope, until_ms FROM outbox ORDER BY number"
FORGET_MESSAGE: Final = "DELETE FROM outbox WHERE number = ?"
DROP_EXPIRED: Final = (
    "DELETE FROM outbox WHERE until_ms <= ? RETURNING number, peer, envelope, until_ms"
)

RECORD_BLOB: Final = (
    "INSERT INTO blobs (digest, size, kind) VALUES (?, ?, ?)"
    " ON CONFLICT (digest) DO UPDATE SET size = excluded.size, kind = excluded.kind"
)
FORGET_BLOB: Final = "DELETE FROM blobs WHERE digest = ?"
BLOBS: Final = "SELECT digest, size, kind FROM blobs ORDER BY digest"

FACT: Final = "SELECT value FROM facts WHERE name = ?"
SET_FACT: Final = (
    "INSERT INTO facts (name, value) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
