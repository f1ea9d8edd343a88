"""Django's PostgreSQL backend over a pool."""
