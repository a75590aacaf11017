-- A commit is answered when the standby has it too.
ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (db1, db2)';
SELECT pg_reload_conf();
