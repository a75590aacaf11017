-- Mail: mailboxes, messages, and what is left of both.  docs/cluster.md says what each is for.

-- The timeline: a promotion, or a restore to a point in time, begins a new one.  An engine that never
-- loses a commit may replace it by a constant.
CREATE FUNCTION pop3gw.epoch() RETURNS integer LANGUAGE sql STABLE AS
$$ SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer $$;

CREATE TABLE pop3gw.mailbox (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text COLLATE "C" NOT NULL UNIQUE,
    next_uid        bigint NOT NULL DEFAULT 1,
    octets          bigint NOT NULL DEFAULT 0,
    messages        bigint NOT NULL DEFAULT 0,
    hidden_octets   bigint NOT NULL DEFAULT 0,
    hidden_messages bigint NOT NULL DEFAULT 0,
    epoch           integer NOT NULL DEFAULT pop3gw.epoch(),
    generation      bigint NOT NULL DEFAULT 0,
    layout          bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);  -- Every delivery changes a row: the new version fits on its page.

CREATE TABLE pop3gw.message (
    mailbox   bigint NOT NULL,
    uid       bigint NOT NULL,
    unique_id text COLLATE "C",            -- NULL: the uid in decimal
    position  bigint NOT NULL,             -- the order of a listing
    octets    bigint NOT NULL,             -- as RETR sends them
    form      smallint NOT NULL,           -- gateway.model.Form
    body      uuid NOT NULL,
    copy      integer NOT NULL,            -- of the recipients of a body: which
    received  timestamptz NOT NULL DEFAULT now(),
    read      timestamptz,
    hidden    timestamptz,
    PRIMARY KEY (mailbox, uid)
) PARTITION BY HASH (mailbox);

-- The header of a message, apart: listings read many messages and no header.
CREATE TABLE pop3gw.head (
    mailbox bigint NOT NULL,
    uid     bigint NOT NULL,
    octets  bytea NOT NULL,
    PRIMARY KEY (mailbox, uid)
) PARTITION BY HASH (mailbox);

DO $$
BEGIN
    FOR part IN 0..15 LOOP
        EXECUTE format('CREATE TABLE pop3gw.message_%s PARTITION OF pop3gw.message'
            ' FOR VALUES WITH (MODULUS 16, REMAINDER %s)', part, part);
        EXECUTE format('CREATE TABLE pop3gw.head_%s PARTITION OF pop3gw.head'
            ' FOR VALUES WITH (MODULUS 16, REMAINDER %s)', part, part);
    END LOOP;
END $$;

CREATE INDEX message_body ON pop3gw.message (body);
CREATE INDEX message_unique_id ON pop3gw.message (mailbox, unique_id) WHERE unique_id IS NOT NULL;

-- Bodies that lost a message.  The leader removes those that no message has any more.
CREATE TABLE pop3gw.gone (
    body uuid NOT NULL,
    copy integer NOT NULL,
    at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (body, copy)
);
CREATE INDEX gone_at ON pop3gw.gone (at);

-- Names that had a mailbox: a new one of that name continues the unique-ids.
CREATE TABLE pop3gw.former_name (
    name     text COLLATE "C" PRIMARY KEY,
    next_uid bigint NOT NULL,
    epoch    integer NOT NULL DEFAULT pop3gw.epoch()
);
