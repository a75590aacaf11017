"""Contract suites for authors of stores and directories.  Installed, for use in tests only."""
