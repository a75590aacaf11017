"""PostgreSQL behind a cluster of gateways: connections, and the schema of mail and state."""
