-- The epoch that the leader has seen, for a dump of a server that was promoted and has written to no mailbox since.
ALTER TABLE pop3gw.leader ADD COLUMN epoch integer NOT NULL DEFAULT pop3gw.epoch();
