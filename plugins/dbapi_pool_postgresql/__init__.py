"""The PostgreSQL plugin of dbapi_pool: psycopg2 and psycopg (3)."""
