-- An epoch is no longer the timeline alone: the restore of a dump begins none, so move-ids begins epochs.
-- In a table that gateways may read already: those that run while this is applied call the function.

ALTER TABLE pop3gw.version ADD COLUMN epochs integer NOT NULL DEFAULT 0;  -- that move-ids has begun

-- An engine that never loses a commit may have 1 in place of the timeline.
CREATE OR REPLACE FUNCTION pop3gw.epoch() RETURNS integer LANGUAGE sql STABLE AS
$$ SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer + epochs
   FROM pop3gw.version $$;
