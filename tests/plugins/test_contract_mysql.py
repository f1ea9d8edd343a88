"""The contract of PyMySQL, mysqlclient, mysql-connector-python and mariadb with their plugin, on a
MariaDB server."""

from __future__ import annotations

from typing import Any

import dirt_mysql
import pytest
import servers
from native_contract import LACKS

from dbapi_pool.testing.contract import DriverContract, Subject


@pytest.fixture(scope="module")
def prepared(mariadb_server: Any) -> Any:
    """The server with what the dirt needs."""
    dirt_mysql.prepare(mariadb_server)
    return mariadb_server


class MySQLContract(DriverContract):
    """What all four drivers have in common."""

    module = ""
    session = "SELECT CONNECTION_ID()"
    kill = "KILL {session}"
    slow = "SELECT SLEEP(30)"
    setup = "SET SESSION group_concat_max_len = 4321"
    setup_seen = "SELECT @@group_concat_max_len"
    unreachable = ({"port": 1},)

    @pytest.fixture
    def subject(self, prepared: Any) -> Subject:
        """The tests' server."""
        creator = servers.driver_module(self.module)
        return Subject(creator, (), prepared.arguments(self.module), self)


class TestPyMySQL(MySQLContract):
    module = "pymysql"
    refused = ({"password": "another password"}, {"database": "no_such_database"})
    attributes = {"encoding": "latin-1"}
    dirt = dirt_mysql.dirt("pymysql")


class TestMySQLdb(MySQLContract):
    module = "MySQLdb"
    refused = ({"password": "another password"}, {"db": "no_such_database"})
    attributes = {"encoding": "latin-1"}
    dirt = dirt_mysql.dirt("MySQLdb")


# MariaDB has none, of which the driver warns whenever somebody tries.
@pytest.mark.filterwarnings("ignore:This version of the server does not support Query Attributes")
class TestConnector(MySQLContract):
    module = "mysql.connector"
    refused = ({"password": "another password"}, {"database": "no_such_database"})
    attributes = {"autocommit": True}
    dirt = dirt_mysql.dirt("mysql.connector")


class TestMariaDB(MySQLContract):
    module = "mariadb"
    refused = ({"password": "another password"}, {"database": "no_such_database"})
    attributes = {"autocommit": True}
    dirt = dirt_mysql.dirt("mariadb")


class TestPyMySQLOverTLS(MySQLContract):
    module = "pymysql"

    @pytest.fixture
    def subject(self, prepared: Any) -> Subject:
        """The same, encrypted."""
        creator = servers.driver_module(self.module)
        return Subject(creator, (), prepared.arguments(self.module, tls=True), self)


class TestURL(MySQLContract):
    unreachable = ()

    @pytest.fixture
    def subject(self, prepared: Any) -> Subject:
        """The same, by a URL."""
        servers.driver_module("pymysql")
        return Subject(prepared.url("pymysql"), knowledge=self)


# -- the driver's own connections are lent ----------------------------------------------------------


class TestPyMySQLNative(TestPyMySQL):
    settings = {"native": True}
    lacks = LACKS


class TestMySQLdbNative(TestMySQLdb):
    settings = {"native": True}
    lacks = LACKS


# MariaDB has none, of which the driver warns whenever somebody tries.
@pytest.mark.filterwarnings("ignore:This version of the server does not support Query Attributes")
class TestConnectorNative(TestConnector):
    settings = {"native": True}
    lacks = LACKS


class TestMariaDBNative(TestMariaDB):
    settings = {"native": True}
    lacks = LACKS
