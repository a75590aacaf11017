-- The names that a mailbox had, and its next uid when it left each: of the ids below, clients of the name know its own.
ALTER TABLE pop3gw.mailbox ADD COLUMN left_at jsonb NOT NULL DEFAULT '{}';
