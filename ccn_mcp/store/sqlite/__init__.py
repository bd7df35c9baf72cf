"""The embedded store: one SQLite file in WAL mode, written under a turnstile, read without waiting."""
