-- Closed mailboxes: while one is copied to another place, and when that serves it.
-- In the row that every change locks first, so that no change overlooks it.

ALTER TABLE pop3gw.mailbox
    ADD COLUMN away       text COLLATE "C" NOT NULL DEFAULT '',  -- which copy took it; empty: here
    ADD COLUMN held_by    uuid,
    ADD COLUMN held_until timestamptz;
