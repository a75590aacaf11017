"""What the gateway costs, beside a tuned Dovecot on the same mail; see ``README.md`` here."""
