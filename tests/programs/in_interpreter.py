"""Runs one scenario in a sub-interpreter, and ends that one while the main one goes on.

    python in_interpreter.py HOW SCENARIO [PATH]

HOW is `embedded` (as mod_wsgi does, by Python's C API), `shared` or `isolated` (from Python; from
3.12 on the latter has a GIL of its own). Prints what the scenario prints, then how it ended.
A program of its own, since Python aborts the whole process if a thread is left behind.
"""

from __future__ import annotations

import sys

FAKE = """
import threading
from dbapi_pool import Pool
from dbapi_pool.testing import FakeDriver
fake = FakeDriver()
pool = Pool(fake, driver=fake.driver(), max_size=3, min_size=1)
"""

SQLITE = """
import sqlite3
from dbapi_pool import Pool
pool = Pool(sqlite3, PATH, max_size=3)
with pool.connection() as conn:
    conn.execute("CREATE TABLE note (text)")
"""

WORK = """
def work():
    for _ in range(50):
        with pool.connection(timeout=20) as conn:
            conn.execute("SELECT 1").fetchone()
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("served", pool.stats().checkouts)
"""

SCENARIOS = {
    "idle": FAKE + "pool.warm_up(); print('served', pool.stats().idle)",
    "lent": FAKE + "held = [pool.connection() for _ in range(3)]; print('served', len(held))",
    "closed": FAKE + "pool.connection().close(); print('served', pool.close())",
    "dropped": FAKE + "pool.warm_up(); fake.on('close', delay=0.2); del pool; print('served')",
    "slow": FAKE + "fake.on('connect', delay=0.3); pool.resize(min_size=3); print('served')",
    "local": FAKE
    + "p = Pool(fake, driver=fake.driver(local=True)); p.connection().close(); print('served')",
    "threads": FAKE + WORK,
    "at exit": FAKE
    + "import atexit; held = []\natexit.register(lambda: held.append(pool.connection()))\n"
    + "atexit.register(lambda: print('served'))",
    "unhooked": FAKE
    + "import atexit; from dbapi_pool import interpreters as i; atexit.unregister(i._at_end)\n"
    + "held = pool.connection(); print('served')",
    "sqlite": SQLITE
    + "held = pool.connection(); print('served', held.execute('SELECT 7').fetchone()[0])",
    "sqlite in threads": SQLITE + "import threading" + WORK,
    # Without a pool, what the pool does on every connection: is sqlite3 itself up to it?
    "bare sqlite": "import sqlite3; conn = sqlite3.connect(PATH, check_same_thread=False)\n"
    "for _ in range(3): conn.create_function('f', 0, int)\nconn.close()\nprint('served')",
}


def embedded(code: str) -> str:
    import _testcapi

    # It prints the traceback itself.
    return "ended" if _testcapi.run_in_subinterp(code) == 0 else "raised"


def from_python(code: str, config: str) -> str:
    if sys.version_info >= (3, 13):
        import _interpreters

        number = _interpreters.create("legacy" if config == "shared" else "isolated")
        error = _interpreters.exec(number, code)
        _interpreters.destroy(number)
        return "ended" if error is None else f"raised {error.type.__name__}: {error.msg}"
    import _xxsubinterpreters

    number = _xxsubinterpreters.create(isolated=config == "isolated")
    try:
        _xxsubinterpreters.run_string(number, code)
    except _xxsubinterpreters.RunFailedError as exc:
        return f"raised {exc}"
    try:
        _xxsubinterpreters.destroy(number)
    except RuntimeError as exc:
        return f"refused: {exc}"
    return "ended"


def main(how: str, scenario: str, path: str = "") -> None:
    code = f"PATH = {path!r}\n" + SCENARIOS[scenario] + "\nimport sys; sys.stdout.flush()\n"
    print(embedded(code) if how == "embedded" else from_python(code, how), flush=True)
    print("the main interpreter goes on", flush=True)


main(*sys.argv[1:])
