-- The day of the guard for purges, and how much each mailbox hides: the next leader goes on with them.
ALTER TABLE pop3gw.removal ADD COLUMN purged bigint NOT NULL DEFAULT 0;
ALTER TABLE pop3gw.scan    ADD COLUMN hidden bigint NOT NULL DEFAULT 0;
