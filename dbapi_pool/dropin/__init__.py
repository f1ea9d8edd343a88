"""Other pools' doors to this one: for programs that were written for them, and shall change one line.

    from dbapi_pool.dropin.dbutils import PooledDB

Each module holds one of them, and knows only the public face of `dbapi_pool`. Nothing is imported
here, and nothing in the package may ever need this.
"""
