-- A file as version 1 of the schema left it, frozen: an upgrade must keep what is in it.
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id BLOB NOT NULL UNIQUE,
    state TEXT NOT NULL,
    data BLOB NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE job_events (
    job_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE machines (
    kind TEXT NOT NULL,
    key BLOB NOT NULL,
    state TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE receipts (
    lease_id BLOB NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('requester', 'provider')),
    peer TEXT NOT NULL,
    usage_ms INTEGER NOT NULL CHECK (usage_ms >= 0),
    amount INTEGER NOT NULL CHECK (amount >= 0),
    at_ms INTEGER NOT NULL,
    proposal BLOB NOT NULL,
    countersign BLOB NOT NULL,
    voucher BLOB NOT NULL,
    PRIMARY KEY (lease_id, role)
) STRICT;
CREATE INDEX receipts_by_time ON receipts (at_ms);
CREATE INDEX receipts_by_role ON receipts (role, amount);
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    peer TEXT NOT NULL,
    envelope BLOB NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_by_end ON outbox (until_ms);
CREATE TABLE blobs (
    digest BLOB PRIMARY KEY,
    size INTEGER NOT NULL CHECK (size >= 0),
    kind TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO jobs VALUES (3, x'0102', 'Running', x'aa', 1000);
INSERT INTO job_events VALUES (x'0102', 1, 1000, 'submitted', '{}');
INSERT INTO machines VALUES ('lease', x'03', 'Leased', x'bb');
INSERT INTO receipts VALUES (x'04', 'provider', 'ada', 1, 2, 3, x'05', x'06', x'');
INSERT INTO outbox VALUES (7, 'bea', x'06', 99);
INSERT INTO blobs VALUES (x'07', 8, 'input');
INSERT INTO facts VALUES ('sequence', x'09');
PRAGMA user_version=1;
