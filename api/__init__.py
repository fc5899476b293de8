"""The server: one engine, its HTTP dialects, its storage."""
