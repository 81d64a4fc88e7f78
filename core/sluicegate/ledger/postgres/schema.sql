-- A Sluicegate ledger in PostgreSQL, schema version 1. Times are µs since 1970 UTC.
-- {ns} is the namespace: a schema of its own, so that grants and DROP SCHEMA work per namespace.
--
-- What may not change under a transaction is kept still by advisory locks on the hashes of the
-- keys, not by row locks: a key that has no row yet can be locked like any other, what is only
-- looked at is locked in share mode, and no lock writes to the table. All locks of a
-- transaction are taken at once in one fixed order (see locks.py), and end with it.

CREATE TABLE {ns}.versions (
    version integer PRIMARY KEY,
    applied timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Chains of journal entries. Each is written by one connection at a time; nobody waits for it.
-- `floor` is the time of its last entry, `used` when the server wrote it. A chain whose writer is
-- gone is continued by another.
CREATE TABLE {ns}.writers (
    number integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (MINVALUE 0 START WITH 0 MAXVALUE 2097151),
    name   text    NOT NULL UNIQUE,
    free   boolean NOT NULL,
    seq    bigint  NOT NULL,
    floor  bigint  NOT NULL,
    used   bigint  NOT NULL,
    hash   text    NOT NULL
) WITH (fillfactor = 50);

-- One entry per decision and per outcome; see journal.py. `number` is writer * 2^32 + seq,
-- and what cells refer to. `position` is the place in the order of all writers: it is taken
-- when all locks are held, so whoever has seen an entry's effect comes after it. A negative one
-- has left the journal (see trimming.py), and is kept because a cell refers to its number.
CREATE TABLE {ns}.journal (
    position bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    number   bigint NOT NULL UNIQUE,
    prev     text   NOT NULL,
    hash     text   NOT NULL,
    body     text   NOT NULL
);

-- The state behind claims: a JSON array under each key, and when it was written.
CREATE TABLE {ns}.cells (
    key  text COLLATE "C" PRIMARY KEY,
    at   bigint NOT NULL,
    cell text   NOT NULL
) WITH (fillfactor = 70);

-- Permits that are out: until when (0: settled as unknown), and their decision's entry.
CREATE TABLE {ns}.permits (
    id      text COLLATE "C" PRIMARY KEY,
    expires bigint NOT NULL,
    entry   bigint NOT NULL
) WITH (fillfactor = 70);

CREATE FUNCTION {ns}.clock() RETURNS bigint LANGUAGE sql VOLATILE AS $body$
    SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint
$body$;

-- The first half of a transaction: take all locks, then read the time and the state.
-- Locks are bigints in the order in which they must be taken; those in `sharing` are shared.
-- `patience` is for each of them, `rest` for how long the transaction may be idle, both in ms.
CREATE FUNCTION {ns}.hold(
    patience integer, rest integer, durable boolean,
    locks bigint[], sharing boolean[], keys text[], permits text[],
    OUT now bigint, OUT since bigint, OUT state text, OUT known text
) LANGUAGE plpgsql VOLATILE AS $body$
BEGIN
    -- Plans are made once per session, when the tables may be small: they must not go by that.
    -- Until PostgreSQL 17 a plan that has to scan all the same, as one row of a sequence, counts as
    -- so dear that it would be compiled each time.
    PERFORM set_config('lock_timeout', patience::text, true),
            set_config('idle_in_transaction_session_timeout', rest::text, true),
            set_config('plan_cache_mode', 'force_generic_plan', true),
            set_config('enable_seqscan', 'off', true),
            set_config('enable_bitmapscan', 'off', true),
            set_config('jit', 'off', true);
    IF NOT durable THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSIF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- One after the other as the array has them: nothing else is scanned, and nothing sorted.
    PERFORM CASE WHEN l.share THEN pg_advisory_xact_lock_shared(l.number) ELSE pg_advisory_xact_lock(l.number) END
       FROM unnest(locks, sharing) AS l(number, share);
    -- From here on each statement sees what those before us committed.
    now := {ns}.clock();
    SELECT max(c.at), string_agg(to_json(c.key)::text || ':' || c.cell, ',')
      INTO since, state
      FROM {ns}.cells c WHERE c.key = ANY (keys);
    SELECT string_agg(to_json(p.id)::text || ':[' || p.expires || ',' || p.entry || ']', ',')
      INTO known
      FROM {ns}.permits p WHERE p.id = ANY (permits);
END
$body$;

-- The second half: write all of it. `seq` is that of the last entry, `at` its time; `untils` and
-- `entries` are those of the permits `ids`. A chain that is not where its writer left it raises SG001.
CREATE FUNCTION {ns}.write(
    writer integer, seq bigint, at bigint, prevs text[], hashes text[], bodies text[],
    keys text[], cells text[], gone text[], ids text[], untils bigint[], entries bigint[], ended text[]
) RETURNS void LANGUAGE plpgsql VOLATILE AS $body$
DECLARE
    before bigint := write.seq - cardinality(hashes);
    seen bigint;
BEGIN
    UPDATE {ns}.writers w
       SET seq = write.seq, hash = hashes[cardinality(hashes)], floor = write.at, used = {ns}.clock()
     WHERE w.number = writer AND w.seq = before AND w.hash = prevs[1];
    IF NOT FOUND THEN
        RAISE EXCEPTION 'chain % is not at entry % any more', writer, before USING ERRCODE = 'SG001';
    END IF;
    -- Says until the commit that positions behind `seen` are under way; see settled().
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO seen FROM {ns}.journal_position_seq;
    PERFORM pg_advisory_xact_lock_shared({lane}, (seen & 4294967295)::bit(32)::int);
    INSERT INTO {ns}.journal (number, prev, hash, body)
    SELECT (writer::bigint << 32) + before + u.place, u.prev, u.hash, u.body
      FROM unnest(prevs, hashes, bodies) WITH ORDINALITY AS u(prev, hash, body, place)
     ORDER BY u.place;
    IF cardinality(keys) > 0 THEN
        INSERT INTO {ns}.cells AS c (key, at, cell)
        SELECT u.key, write.at, u.cell FROM unnest(keys, cells) AS u(key, cell)
        ON CONFLICT (key) DO UPDATE SET at = excluded.at, cell = excluded.cell;
    END IF;
    IF cardinality(gone) > 0 THEN
        DELETE FROM {ns}.cells c WHERE c.key = ANY (gone);
    END IF;
    IF cardinality(ids) > 0 THEN
        INSERT INTO {ns}.permits AS p (id, expires, entry)
        SELECT u.id, u.expires, u.entry FROM unnest(ids, untils, entries) AS u(id, expires, entry)
        ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, entry = excluded.entry;
    END IF;
    IF cardinality(ended) > 0 THEN
        DELETE FROM {ns}.permits p WHERE p.id = ANY (ended);
    END IF;
END
$body$;

-- Up to which position the journal is complete: all before it are committed, or never will be.
--
-- Positions are handed out before their transactions commit, so one may come to light behind a
-- later one, and a reader who had passed it would never see it. A writer therefore first notes,
-- as an advisory lock, the last position handed out, and takes its own only afterwards. We look
-- in the opposite order: whoever had a position by our first statement shows in the second,
-- or has ended.
CREATE FUNCTION {ns}.settled() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $body$
DECLARE
    seen bigint;
    behind bigint;
BEGIN
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO seen FROM {ns}.journal_position_seq;
    SELECT max(((seen & 4294967295) - l.objid::bigint + 4294967296) % 4294967296) INTO behind
      FROM pg_catalog.pg_locks l
     WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = {lane}::bigint::oid
       AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
       -- Whoever came after our first statement may have noted a later one than we saw.
       AND ((seen & 4294967295) - l.objid::bigint + 4294967296) % 4294967296 < 2147483648;
    RETURN seen - coalesce(behind, 0);
END
$body$;

-- Take over a chain that nobody writes any more, or begin a new one. A chain of which nothing
-- was heard for a day counts as given up; were its writer to come back, it would be told (SG001).
CREATE FUNCTION {ns}.enlist(
    fresh text, OUT number integer, OUT name text, OUT seq bigint, OUT hash text, OUT floor bigint
) LANGUAGE plpgsql VOLATILE AS $body$
BEGIN
    UPDATE {ns}.writers w SET free = false, used = {ns}.clock()
     WHERE w.number = (
           SELECT o.number FROM {ns}.writers o
            WHERE o.free OR o.used < {ns}.clock() - 86400000000
            ORDER BY o.number LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING w.number, w.name, w.seq, w.hash INTO enlist.number, enlist.name, enlist.seq, enlist.hash;
    IF NOT FOUND THEN
        INSERT INTO {ns}.writers AS w (name, free, seq, floor, used, hash)
        VALUES (fresh, false, 0, 0, {ns}.clock(), repeat('0', 64))
        RETURNING w.number, w.name, w.seq, w.hash INTO enlist.number, enlist.name, enlist.seq, enlist.hash;
    END IF;
    SELECT max(w.floor) INTO enlist.floor FROM {ns}.writers w;
END
$body$;

INSERT INTO {ns}.versions (version) VALUES (1);
