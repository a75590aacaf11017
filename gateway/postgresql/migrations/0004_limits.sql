-- Limits that hold in the whole cluster: sessions per user, LOGIN-DELAY, and wrong passwords.
-- docs/cluster.md says how.

-- A process that counts sessions.  What it has counted is void once its term is over.
CREATE TABLE pop3gw.member (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    until timestamptz NOT NULL
);

CREATE TABLE pop3gw.login (
    mailbox  text COLLATE "C" PRIMARY KEY,
    sessions bigint[] NOT NULL DEFAULT '{}',  -- each the number of its member * 2^32 + its own
    latest   bigint,                          -- the session of the last login
    at       timestamptz                      -- when that was
) WITH (fillfactor = 50);  -- Every login changes a row: the new version fits on its page.

CREATE TABLE pop3gw.guess (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    writer    uuid NOT NULL,                  -- a process
    name      text NOT NULL,
    host      text NOT NULL,
    digest    text NOT NULL,                  -- of the password, under a key that is not here
    account   text NOT NULL,
    is_answer boolean NOT NULL,
    is_right  boolean NOT NULL
);
CREATE INDEX guess_at ON pop3gw.guess (at);

-- Counts what began and ended in a member's sessions since it last called this.  A call that is repeated
-- changes nothing more.  No rows: the member's term is over.
-- verdict: 0 the new session is in, 1 there are ``amount`` sessions, 2 the last login was ``amount``
-- seconds ago.
CREATE FUNCTION pop3gw.count_sessions(member_id bigint, per_user integer, changes jsonb)
RETURNS TABLE (box text, verdict integer, amount float8) LANGUAGE plpgsql AS
$$
DECLARE
    asked record;
    entry pop3gw.login%ROWTYPE;
    base  bigint := member_id << 32;
    moment timestamptz;
    since float8;
BEGIN
    PERFORM FROM pop3gw.member WHERE id = member_id AND until > clock_timestamp();
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- In one order, so that two calls never wait for each other.
    FOR asked IN
        SELECT one.* FROM jsonb_to_recordset(changes) AS one
            (mailbox text, ended bigint[], known bigint[], undone bigint[],
             new bigint, delay float8, ago float8)
        ORDER BY one.mailbox COLLATE "C"
    LOOP
        INSERT INTO pop3gw.login (mailbox) VALUES (asked.mailbox) ON CONFLICT DO NOTHING;
        SELECT * INTO entry FROM pop3gw.login WHERE mailbox = asked.mailbox FOR UPDATE;
        -- Read after the row is locked: now() is when the transaction began.
        moment := clock_timestamp();
        entry.sessions := ARRAY(
            SELECT DISTINCT session
            FROM unnest(entry.sessions || ARRAY(SELECT base + k FROM unnest(asked.known) k)) session
            JOIN pop3gw.member ON member.id = session >> 32
            WHERE member.until > moment
            AND session - base <> ALL (asked.ended));
        IF entry.latest - base = ANY (asked.undone) THEN
            entry.at := NULL;
        END IF;
        IF asked.ago IS NOT NULL THEN
            entry.at := greatest(entry.at, moment - asked.ago * interval '1 second');
        END IF;
        verdict := 0;
        amount := 0;
        IF asked.new IS NOT NULL AND entry.latest IS DISTINCT FROM base + asked.new
            AND base + asked.new <> ALL (entry.sessions) THEN
            since := extract(epoch FROM moment - entry.at);
            -- A login in the future is one before the clock was set back.
            IF since > -60 AND since < asked.delay THEN
                verdict := 2;
                amount := greatest(since, 0);
            ELSIF per_user > 0 AND cardinality(entry.sessions) >= per_user THEN
                verdict := 1;
                amount := cardinality(entry.sessions);
            ELSE
                entry.latest := base + asked.new;
                entry.at := moment;
                IF per_user > 0 THEN
                    entry.sessions := entry.sessions || entry.latest;
                END IF;
            END IF;
        END IF;
        UPDATE pop3gw.login SET sessions = entry.sessions, latest = entry.latest, at = entry.at
            WHERE mailbox = asked.mailbox;
        box := asked.mailbox;
        RETURN NEXT;
    END LOOP;
END
$$;
