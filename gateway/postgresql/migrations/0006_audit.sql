-- The audit: a row for each message that was removed, hidden or restored, of the same transaction.

CREATE TABLE pop3gw.audit (
    at         timestamptz NOT NULL,       -- after the mailbox was locked: its entries are in order
    id         bigint GENERATED ALWAYS AS IDENTITY,
    action     text NOT NULL,              -- discard, hide, purge, restore
    mailbox    text COLLATE "C" NOT NULL,  -- its name then
    uid        text NOT NULL,              -- the unique-id
    message_id text,
    octets     bigint NOT NULL,
    received   timestamptz NOT NULL,
    read       timestamptz,
    rule       text NOT NULL,
    session    text NOT NULL,
    client     text NOT NULL,
    operator   text NOT NULL,
    PRIMARY KEY (at, id)
);
CREATE INDEX audit_mailbox ON pop3gw.audit (mailbox, at, id);
