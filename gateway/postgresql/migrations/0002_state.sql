-- The state of the cluster beside the mail (gateway.interfaces.IState), and its leader.
-- Times that gateways compare with their own clocks are Unix seconds.

CREATE TABLE pop3gw.warning (
    mailbox   text COLLATE "C" PRIMARY KEY,
    level     smallint NOT NULL DEFAULT 0,
    warned_at float8,
    full_at   float8
);

CREATE TABLE pop3gw.digest (
    recipient text COLLATE "C" PRIMARY KEY,
    sent      float8 NOT NULL
);

CREATE TABLE pop3gw.scan (
    mailbox  text COLLATE "C" PRIMARY KEY,
    policy   text NOT NULL,
    due      float8,
    looked   float8 NOT NULL,
    messages bigint NOT NULL,
    stopped  text
);

CREATE TABLE pop3gw.removal (
    day      integer PRIMARY KEY,
    messages bigint NOT NULL
);

CREATE TABLE pop3gw.forecast (
    mailbox text COLLATE "C" PRIMARY KEY,
    due     jsonb NOT NULL
);

CREATE TABLE pop3gw.retention_order (
    mailbox  text COLLATE "C" PRIMARY KEY,
    given    float8 NOT NULL,
    released boolean NOT NULL
);

CREATE TABLE pop3gw.announced_expire (
    id      integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    expire  text NOT NULL,
    until   float8 NOT NULL
);

CREATE TABLE pop3gw.rename (
    mailbox text COLLATE "C" PRIMARY KEY,
    target  text COLLATE "C" NOT NULL
);

CREATE TABLE pop3gw.last_login (
    mailbox text COLLATE "C" PRIMARY KEY,
    at      float8 NOT NULL,
    method  text NOT NULL,
    network text NOT NULL
);

CREATE TABLE pop3gw.logins_since (
    id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    at float8 NOT NULL
);

CREATE TABLE pop3gw.high_water (
    place text COLLATE "C" PRIMARY KEY,
    uid   bigint NOT NULL
);

CREATE TABLE pop3gw.leader (
    id     integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    holder uuid NOT NULL,
    until  timestamptz NOT NULL
);
