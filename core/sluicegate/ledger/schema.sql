-- A Sluicegate ledger, schema version 1 (user_version). Times are µs since 1970 UTC.
--
-- A transaction appends to two tables only, `journal` and `recent`, so that it dirties
-- two pages however many claims it takes and however large the ledger is. Every few
-- hundred entries the changes in `recent` are folded into `cells` and `permits`.
-- The state is therefore: cells and permits, overlaid with recent in the order of seq.

PRAGMA page_size = 4096;
PRAGMA application_id = 1397507911;  -- "SLGG"
PRAGMA user_version = 1;

BEGIN IMMEDIATE;

-- One entry per decision and per outcome, chained by hash; see journal.py.
CREATE TABLE journal (
    seq  INTEGER PRIMARY KEY,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL,
    body TEXT NOT NULL
);

-- What each transaction since the last fold changed, under the number of its last entry:
-- [{key: cell or null}, {permit: [expires, entry] or null}]
CREATE TABLE recent (
    seq     INTEGER PRIMARY KEY,
    hash    TEXT NOT NULL,
    floor   INTEGER NOT NULL,
    changes TEXT NOT NULL
);

-- The state behind claims: a JSON array under each key.
CREATE TABLE cells (
    key  TEXT PRIMARY KEY NOT NULL,
    cell TEXT NOT NULL
) WITHOUT ROWID;

-- Permits that are out: until when (0: settled as unknown), and their decision's entry.
CREATE TABLE permits (
    id      TEXT PRIMARY KEY NOT NULL,
    expires INTEGER NOT NULL,
    entry   INTEGER NOT NULL
) WITHOUT ROWID;

-- Up to where `recent` has been folded: the last entry's number and hash, and the latest
-- time seen until then. `writer` names this ledger's chain.
CREATE TABLE head (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    seq    INTEGER NOT NULL,
    hash   TEXT NOT NULL,
    floor  INTEGER NOT NULL,
    writer TEXT NOT NULL
);

COMMIT;
