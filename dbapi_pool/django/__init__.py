"""Django over pools of ours: `"ENGINE": "dbapi_pool.django.postgresql"`, `mysql` or `sqlite3`.

Each of these is Django's own backend, but its connections are borrowed from a pool, one for each alias
and process. They must know the pool by its public face alone, and are imported by Django, never by the
package.
"""
