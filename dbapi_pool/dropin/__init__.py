"""Other pools' doors to this one: for programs that were written for them, and shall change one line.

    from dbapi_pool.dropin.dbutils import PooledDB
    from dbapi_pool.dropin.psycopg2_pool import ThreadedConnectionPool
    from dbapi_pool.dropin.mysql_connector_pooling import MySQLConnectionPool

Each module or package here holds one of them, or what several share, and knows only the public face of
`dbapi_pool`. Nothing is imported here, and nothing in the package may ever need this.
"""
