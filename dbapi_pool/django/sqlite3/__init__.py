"""Django's SQLite backend over a pool."""
