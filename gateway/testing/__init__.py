"""What whoever writes a store or a directory tests it with; of tests only, and installed."""
