"""The MySQL and MariaDB plugin of dbapi_pool: PyMySQL, mysqlclient, mysql-connector-python and mariadb."""
