-- A release says for which policy it is, and an order without one leaves its time.
-- The older column stays for gateways that are not yet upgraded: what they release is taken for a run.
ALTER TABLE pop3gw.retention_order
    ALTER COLUMN released SET DEFAULT false,
    ADD COLUMN released_at float8,
    ADD COLUMN policy      text NOT NULL DEFAULT '';
