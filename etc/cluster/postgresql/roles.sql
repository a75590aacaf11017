-- Run once, when db1 makes the database. pop3gw owns it and has the schema; gateway is the role of
-- gateways, with what docs/cluster.md grants, also in tables that a later migration makes.
\set owner `cat /run/secrets/database-owner`
\set gateway `cat /run/secrets/database-gateway`
\set standby `cat /run/secrets/database-standby`
CREATE ROLE pop3gw LOGIN PASSWORD :'owner';
CREATE ROLE gateway LOGIN PASSWORD :'gateway';
CREATE ROLE standby LOGIN REPLICATION PASSWORD :'standby';

ALTER DATABASE mail OWNER TO pop3gw;
REVOKE ALL ON DATABASE mail FROM PUBLIC;
GRANT CONNECT ON DATABASE mail TO gateway;

CREATE SCHEMA pop3gw AUTHORIZATION pop3gw;
GRANT USAGE ON SCHEMA pop3gw TO gateway;
ALTER DEFAULT PRIVILEGES FOR ROLE pop3gw IN SCHEMA pop3gw
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO gateway;
ALTER ROLE gateway SET statement_timeout = '10s';
ALTER ROLE gateway SET idle_in_transaction_session_timeout = '30s';

-- Last: from now on each commit waits for the standby.
\ir /etc/cluster/synchronous.sql
