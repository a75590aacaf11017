-- Sessions that have a mailbox alone (RFC 1939 section 4), in the whole cluster.

CREATE TABLE pop3gw.lease (
    mailbox bigint PRIMARY KEY,
    holder  uuid NOT NULL,           -- a session
    until   timestamptz NOT NULL
);
