"""SQLAlchemy over a pool, with each of its drivers: all that it does with connections."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import documents
import pytest
import servers

documents.require("sqlalchemy")

from sqlalchemy import (  # noqa: E402
    JSON,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    create_engine,
    event,
    exc,
    func,
    inspect,
    select,
    text,
)  # fmt: skip
from sqlalchemy.orm import Session, registry  # noqa: E402
from sqlalchemy.pool import NullPool  # noqa: E402

from dbapi_pool import PoolSettingError, PoolTimeout  # noqa: E402

DRIVERS = {
    "sqlite3": "pysqlite",
    "psycopg2": "psycopg2",
    "psycopg": "psycopg",
    "pymysql": "pymysql",
    "MySQLdb": "mysqldb",
}
"""DB-API module to SQLAlchemy's name for it."""

# Who listens for `connect` gets the driver's connection.
BACKEND = {
    "psycopg2": "SELECT pg_backend_pid()",
    "psycopg": "SELECT pg_backend_pid()",
    "pymysql": "SELECT CONNECTION_ID()",
    "MySQLdb": "SELECT CONNECTION_ID()",
}
LEAVE = {
    "sqlite3": ("CREATE TEMP TABLE mine (x INTEGER)", "SELECT count(*) FROM sqlite_temp_master", 0),
    "psycopg2": ("SET work_mem TO '7MB'", "SHOW work_mem", "4MB"),
    "psycopg": ("SET work_mem TO '7MB'", "SHOW work_mem", "4MB"),
    "pymysql": ("SET @mine = 7", "SELECT @mine", None),
    "MySQLdb": ("SET @mine = 7", "SELECT @mine", None),
}
"""What a borrower leaves behind, how the next one would see it, and what it must see."""

metadata = MetaData()
item = Table(
    "sqlalchemy_item", metadata,
    Column("id", Integer, primary_key=True), Column("name", String(20)), Column("data", JSON),
    Column("code", Uuid, default=uuid.uuid4),
)  # fmt: skip
mapper = registry()


@mapper.mapped
class Item:
    __table__ = item


@pytest.fixture(params=DRIVERS)
def module(request: pytest.FixtureRequest) -> str:
    servers.driver_module(request.param)
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, module: str) -> servers.Server | None:
    fixture = servers.FIXTURE_OF.get(module)
    return request.getfixturevalue(fixture) if fixture else None


@pytest.fixture
def url(module: str, server: servers.Server | None, tmp_path: Any) -> str:
    return server.url(DRIVERS[module]) if server else f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture
def make(url: str) -> Iterator[Callable[..., Any]]:
    engines = []

    def make(address: str = url, **options: Any) -> Any:
        options.setdefault("dbapi_pool", {"max_size": 3})
        engines.append(create_engine(address, plugins=["dbapi_pool"], **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.pool.dbapi_pool.close()


@pytest.fixture
def engine(make: Callable[..., Any]) -> Any:
    engine = make()
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return engine


def count(engine: Any) -> int:
    with engine.connect() as conn:
        return int(conn.execute(select(func.count()).select_from(item)).scalar())


def stats(engine: Any) -> Any:
    return engine.pool.dbapi_pool.stats()


# -- everyday use --------------------------------------------------------------------------------------


def test_many_transactions_share_one_connection_that_is_never_reset(engine):
    prepared = []  # also after each reset
    event.listen(engine, "connect", lambda *args: prepared.append(args))
    for number in range(30):
        with engine.begin() as conn:
            conn.execute(item.insert(), {"name": "tea", "data": {"number": number}})
        with engine.connect() as conn:
            conn.execute(item.insert(), {"name": "lost"})  # not committed

    assert count(engine) == 30
    assert (len(prepared), stats(engine).opened, stats(engine).in_use) == (0, 1, 0)


def test_the_orm_keeps_json_and_uuids(engine):
    code = uuid.uuid4()
    with Session(engine) as session:
        session.add(Item(name="tea", data={"a": [1, None]}, code=code))
        session.commit()

    with Session(engine) as session:
        found = session.scalars(select(Item)).one()
        assert (found.data, found.code) == ({"a": [1, None]}, code)
        session.delete(found)
        session.rollback()

    assert count(engine) == 1


def test_rows_are_streamed_from_the_server(engine):
    with engine.begin() as conn:
        conn.execute(item.insert(), [{"name": str(number)} for number in range(2000)])

    with engine.connect().execution_options(stream_results=True, max_row_buffer=50) as conn:
        with conn.execute(select(item.c.name)) as rows:
            names = {rows.fetchone()[0] for _ in range(1000)}  # the rest is left unread

    assert len(names) == 1000
    assert count(engine) == 2000


def test_an_isolation_level_is_for_one_borrower(engine, module):
    level = "READ UNCOMMITTED" if module == "sqlite3" else "SERIALIZABLE"
    with engine.connect() as conn:
        before = conn.get_isolation_level()
    with engine.connect().execution_options(isolation_level=level) as conn:
        assert conn.get_isolation_level() == level
    with engine.connect() as conn:
        assert conn.get_isolation_level() == before


def test_autocommit_is_for_one_borrower(engine):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(item.insert(), {"name": "kept"})
    with engine.connect() as conn:
        conn.execute(item.insert(), {"name": "lost"})

    assert count(engine) == 1


def test_two_phases(engine, module):
    if module == "sqlite3":
        pytest.skip("SQLite has no transactions of two phases")
    for end in ("commit", "rollback"):
        with engine.connect() as conn:
            transaction = conn.begin_twophase()
            conn.execute(item.insert(), {"name": end})
            transaction.prepare()
            getattr(transaction, end)()

    assert count(engine) == 1


def test_tables_are_reflected(engine):
    assert "sqlalchemy_item" in inspect(engine).get_table_names()
    found = Table("sqlalchemy_item", MetaData(), autoload_with=engine)
    assert [column.name for column in found.columns] == ["id", "name", "data", "code"]


def test_the_next_borrower_sees_nothing_of_the_one_before(engine, module):
    leave, look, expected = LEAVE[module]
    with engine.begin() as conn:
        conn.execute(text(leave))
    with engine.connect() as conn:
        assert conn.execute(text(look)).scalar() == expected


def test_threads_wait_their_turn(engine):
    def work() -> None:
        for _ in range(10):
            with engine.begin() as conn:
                conn.execute(select(func.count()).select_from(item))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert stats(engine).size <= 3
    assert (stats(engine).in_use, stats(engine).timeouts) == (0, 0)


# -- new connections -----------------------------------------------------------------------------------


def test_a_listener_prepares_each_connection_once(make):
    engine = make()
    seen = []

    @event.listens_for(engine, "connect")
    def prepare(conn: Any, record: Any) -> None:
        seen.append(type(conn))

    for _ in range(5):
        with engine.connect() as conn:
            conn.execute(text("SELECT 1"))

    assert len(seen) == 1
    with engine.connect() as conn:
        assert seen == [type(conn.connection.dbapi_connection.driver_connection)]


def test_listeners_hear_of_borrowing_and_giving_back(make):
    engine = make()
    heard = []
    for name in ("checkout", "checkin"):
        event.listen(engine, name, lambda *args, name=name: heard.append(name))

    for _ in range(2):
        with engine.connect():
            pass

    assert heard == ["checkout", "checkin"] * 2


def test_what_a_listener_raises_reaches_the_borrower_and_nothing_stays_open(make, server):
    engine = make(dbapi_pool={"max_size": 1})

    @event.listens_for(engine, "connect")
    def refuse(conn: Any, record: Any) -> None:
        raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        engine.connect()

    assert stats(engine).size == 0


def test_json_can_be_read_by_a_function_of_ones_own(make):
    engine = make(json_deserializer=lambda text: ["mine", json.loads(text)])
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as conn:
        conn.execute(item.insert(), {"data": {"a": 1}})
    for _ in range(2):
        with engine.connect() as conn:
            assert conn.execute(select(item.c.data)).scalar() == ["mine", {"a": 1}]


def test_hstore_is_known(make, module):
    if not module.startswith("psycopg"):
        pytest.skip("only PostgreSQL has HSTORE")
    from sqlalchemy.dialects.postgresql import HSTORE

    engine = make()
    with engine.begin() as conn:
        if not conn.execute(
            text("SELECT 1 FROM pg_available_extensions WHERE name = 'hstore'")
        ).scalar():
            pytest.skip("this PostgreSQL has no hstore")
        conn.execute(text("CREATE EXTENSION hstore"))
    try:
        engine.dispose()
        with engine.connect() as conn:
            conn.execute(text("SET work_mem TO '7MB'"))  # so that the session is reset
        for _ in range(2):
            with engine.connect() as conn:
                statement = text("SELECT CAST('a=>1' AS hstore) AS h").columns(h=HSTORE)
                assert conn.execute(statement).scalar() == {"a": "1"}
    finally:
        with engine.begin() as conn:  # the server is everybody's
            conn.execute(text("DROP EXTENSION hstore"))


# -- when things break ---------------------------------------------------------------------------------


def test_nobody_notices_that_an_idle_session_was_killed(engine, server, module):
    if server is None:
        pytest.skip("SQLite has no sessions")
    with engine.connect() as conn:
        session = conn.execute(text(BACKEND[module])).scalar()
    server.kill_session(session)

    assert count(engine) == 0
    assert stats(engine).closed["dead"] == 1


def test_a_killed_session_fails_once_and_is_replaced(engine, server, module):
    if server is None:
        pytest.skip("SQLite has no sessions")
    with engine.connect() as conn:
        session = conn.execute(text(BACKEND[module])).scalar()
        server.kill_session(session)
        with pytest.raises(exc.DBAPIError) as failed:
            conn.execute(text("SELECT 1"))
        assert failed.value.connection_invalidated

    assert count(engine) == 0
    assert stats(engine).closed["invalidated"] == 1


def test_who_waits_in_vain_is_told_who_holds_it(make):
    engine = make(dbapi_pool={"max_size": 1, "checkout_timeout": 0.5})
    told: list[Any] = []

    def wait() -> None:
        with pytest.raises(exc.OperationalError) as failed:
            engine.connect()
        told.append(failed.value.orig)

    with engine.connect():
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join()

    assert isinstance(told[0], PoolTimeout)
    assert os.path.basename(__file__) in str(told[0])


def test_invalidating_closes_it(engine):
    with engine.connect() as conn:
        conn.invalidate()
    assert stats(engine).closed["invalidated"] == 1


# -- life cycle ----------------------------------------------------------------------------------------


def test_dispose_closes_and_begins_anew(engine):
    before = engine.pool.dbapi_pool
    lent = engine.connect()
    engine.dispose()

    assert before.closed
    assert count(engine) == 0
    lent.close()
    assert before.stats().size == 0


def test_a_forgotten_engine_leaves_no_connection(make, url, server):
    engine = create_engine(url, plugins=["dbapi_pool"])
    with engine.connect():
        pass
    pool = engine.pool.dbapi_pool
    ledger = pool._ledger
    del engine, pool
    gc.collect()

    servers.wait_for(lambda: not ledger.census().open, 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
# Python 3.12 warns of every fork beside threads; the pool's own are such threads.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(engine, module):
    with engine.connect() as conn:
        conn.execute(select(item))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            ours = stats(engine).opened
            os.write(writing, b"%d %d" % (ours, count(engine)))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert answer.read() == "0 0"
    assert count(engine) == 0
    assert "dead" not in stats(engine).closed


# -- settings ------------------------------------------------------------------------------------------


def test_settings_come_in_the_url_too(make, url):
    extra = "&" if "?" in url else "?"
    engine = make(
        f"{url}{extra}dbapi_pool_max_size=7&dbapi_pool_max_lifetime=none&dbapi_pool_name=shop",
        dbapi_pool={"checkout_timeout": 1.5},
    )
    with engine.connect() as conn:
        conn.execute(text("SELECT 1"))
    pool = engine.pool.dbapi_pool
    assert (pool.max_size, pool.name, pool._options.max_lifetime) == (7, "shop", None)
    assert "shop" in engine.pool.status()


def test_a_creator_connects_in_place_of_the_driver(make, module):
    calls = []
    # Which the pool leaves to a function of one's own.
    adding = {"check_same_thread": False} if module == "sqlite3" else {}

    def connect(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        kwargs.update(adding)
        return servers.driver_module(module).connect(*args, **kwargs)

    engine = make(dbapi_pool={"creator": connect})
    with engine.connect() as conn:
        assert conn.execute(text("SELECT 1")).scalar() == 1
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dbapi_pool": {"setup": "SELECT 1"}}, "'setup'"),
        ({"creator": lambda: None}, "creator=: leave it out"),
        ({"poolclass": NullPool}, "poolclass=: leave it out"),
    ],
)
def test_what_cannot_work_is_refused(options, text):
    with pytest.raises(exc.ArgumentError, match=text):
        create_engine("sqlite:///shop.db", plugins=["dbapi_pool"], **options)


def test_other_settings_are_refused_as_by_the_pool_itself():
    with pytest.raises(PoolSettingError, match="max_size"):
        create_engine("sqlite:///shop.db", plugins=["dbapi_pool"], dbapi_pool={"max_size": 0})
    with pytest.raises(PoolSettingError, match="private"):
        create_engine("sqlite://", plugins=["dbapi_pool"])
    with pytest.raises(TypeError, match="pool_size"):
        create_engine("sqlite:///shop.db", plugins=["dbapi_pool"], pool_size=3)


def test_a_shared_database_in_memory_needs_no_word_about_threads(make):
    engine = make("sqlite:///file:shop?mode=memory&cache=shared&uri=true")
    metadata.create_all(engine)
    found: list[int] = []
    with engine.connect():  # on another connection
        thread = threading.Thread(target=lambda: found.append(count(engine)))
        thread.start()
        thread.join()
    assert found == [0]


def test_an_asynchronous_engine_is_refused():
    servers.driver_module("psycopg")
    from sqlalchemy.ext.asyncio import create_async_engine

    with pytest.raises(exc.ArgumentError, match="asynchronous"):
        create_async_engine("postgresql+psycopg://db/shop", plugins=["dbapi_pool"])
