-- A Sluicegate ledger, schema version 1 (user_version). Times are µs since 1970 UTC.
--
-- A transaction only appends to `journal`: to one page, however many claims it takes and
-- however large the ledger is. Its last entry carries the state that it changed. Every few
-- hundred entries the changes are folded into `cells` and `permits`, so the state is
-- these two, overlaid with the changes of all entries behind `head`.

PRAGMA page_size = 4096;
PRAGMA application_id = 1397507911;  -- "SLGG"
PRAGMA user_version = 1;

BEGIN IMMEDIATE;

-- One entry per decision and per outcome, chained by hash; see journal.py. `changes` is
-- null but for the last entry of a transaction:
-- [latest time seen, {key: cell or null}, {permit: [expires, entry] or null}]
CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY,
    prev    TEXT NOT NULL,
    hash    TEXT NOT NULL,
    changes TEXT,
    body    TEXT NOT NULL
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

-- The entry up to which changes are folded, its hash, and the latest time seen by then.
-- `writer` names the chain of this ledger.
CREATE TABLE head (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    seq    INTEGER NOT NULL,
    hash   TEXT NOT NULL,
    floor  INTEGER NOT NULL,
    writer TEXT NOT NULL
);

COMMIT;
