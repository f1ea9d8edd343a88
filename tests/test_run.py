"""`dbapi-pool run`: a program runs as under `python`, byte for byte, but its connects are pooled."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import psutil
import pytest
from programs import FOLDER, PATIENCE

from dbapi_pool.cli.run.program import Program

ENDS = str(FOLDER / "legacy_ends.py")
POOLED = (sys.executable, "-m", "dbapi_pool", "run")
BARE = (sys.executable,)
SCRIPT = Path(sys.executable).with_name("dbapi-pool")

# From Python 3.12 on: a pool that has connections has a thread.
FORK_WITH_THREADS = re.compile(r".*multi-threaded, use of fork\(\) may lead to deadlocks.*\n.*\n")

Done = subprocess.CompletedProcess


def run(*command: str, **options: Any) -> Done[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **options)


def both(*arguments: str, **options: Any) -> Done[str]:
    """Run it bare and pooled; all that can be seen must be the same."""
    bare, pooled = (run(*how, *arguments, **options) for how in (BARE, POOLED))
    pooled.stderr = FORK_WITH_THREADS.sub("", pooled.stderr)
    seen = [(done.returncode, done.stdout, done.stderr) for done in (bare, pooled)]
    assert seen[1] == seen[0]
    return pooled


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "app.db")


@pytest.fixture
def program(tmp_path: Path) -> Any:
    """Writes a program, and gives its path."""

    def write(text: str, name: str = "program.py") -> str:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return str(path)

    return write


WAYS = {
    "returns": 0, "exits": 3, "exits with text": 1, "exits with an object": 1,
    "exits with none": 0, "raises": 1, "raises another": 1, "raises twice": 1, "prints": 0,
    "interrupts itself": -signal.SIGINT, "terminates itself": -signal.SIGTERM,
    "raises KeyboardInterrupt": -signal.SIGINT, "fails in a thread": 0, "thread goes on": 0,
    "connects at exit": 0, "forks": 0, "uses what is closed": 1, "is refused": 1,
    "leaves at once": 9,
}  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
def test_it_ends_as_without(how: str, file: str) -> None:
    done = both(ENDS, how, file)

    assert done.returncode == WAYS[how]
    # No line of ours, wherever the script is.
    assert f"{os.sep}dbapi_pool{os.sep}" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_as_without(number: signal.Signals, file: str) -> None:
    seen = []
    for how in (BARE, POOLED):
        process = subprocess.Popen(
            [*how, ENDS, "waits", file], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
            pass  # it has said so, and is about to
        process.send_signal(number)
        seen.append((*process.communicate(timeout=PATIENCE), process.returncode))

    assert seen[0] == seen[1]
    assert seen[1][2] == -number


def test_a_legacy_program_sees_the_same(file: str) -> None:
    done = both(
        str(FOLDER / "legacy_idioms.py"),
        "sqlite3",
        env={**os.environ, "ARGUMENTS": json.dumps({"database": file})},
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("the end [1, 5, 6, 7, 9, 10]\n")


ABOUT_ITSELF = """
import sys, os, inspect, pickle
class Mine: pass
print(sorted(vars()), __name__, __spec__, __package__, __doc__, type(__loader__), __builtins__)
print(globals().get("__file__"), globals().get("__cached__"), globals().get("__annotations__"))
print(sys.argv, sys.path, sys.modules["__main__"].Mine is Mine, pickle.loads(pickle.dumps(Mine)))
print(inspect.getsource(Mine) if __file__ != "<stdin>" else "")
print(sys.stdin.read(), sys.warnoptions, sys.flags)
"""


@pytest.mark.parametrize(
    "options", [(), ("-W", "error"), ("-I",), ("-O",), ("-X", "utf8")], ids=" ".join
)
def test_it_sees_itself_as_without(program: Any, options: tuple[str, ...]) -> None:
    path = program(ABOUT_ITSELF)
    command = (sys.executable, *options)

    bare = run(*command, path, "a", "--stats", "-m", input="typed")
    pooled = run(*command, "-m", "dbapi_pool", "run", path, "a", "--stats", "-m", input="typed")

    assert (bare.returncode, bare.stderr) == (0, "")
    assert pooled.stdout == bare.stdout
    assert pooled.stderr == ""


@pytest.mark.skipif(not SCRIPT.exists(), reason="the command is not beside this Python")
def test_the_installed_command_does_the_same(program: Any) -> None:
    path = program(ABOUT_ITSELF)

    bare = run(*BARE, path, "a", input="typed")
    pooled = run(str(SCRIPT), "run", path, "a", input="typed")

    assert pooled.stdout == bare.stdout


def test_a_relative_path_and_a_link(program: Any, tmp_path: Path) -> None:
    program("import beside, sys\nprint(__file__, sys.argv, sys.path[0])", "real.py")
    program("", "beside.py")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.py").symlink_to(tmp_path / "real.py")

    assert both("real.py", cwd=tmp_path).returncode == 0
    assert both("link.py", cwd=tmp_path / "elsewhere").returncode == 0
    assert both("elsewhere/../real.py", "x", cwd=tmp_path).returncode == 0
    assert both("./real.py", "x", cwd=tmp_path).returncode == 0


MODULES = ["tool", "package", "package.part"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_run_as_python_does(name: str, tmp_path: Path) -> None:
    text = (
        "import sys, sqlite3\n"
        "print(__name__, __spec__.name, __package__, __file__, sys.argv, sys.path[0])\n"
        "sqlite3.connect(':memory:').execute('BAD')\n"
    )
    (tmp_path / "package").mkdir()
    for file in ("tool.py", "package/__init__.py", "package/__main__.py", "package/part.py"):
        (tmp_path / file).write_text(text if "__init__" not in file else "")

    done = both("-m", name, "--max-size", "x", cwd=tmp_path)

    assert done.returncode == 1
    assert "BAD" in done.stderr
    assert "['" + str(tmp_path) in done.stdout


def test_a_folder_and_an_archive_are_run_as_python_does(tmp_path: Path) -> None:
    text = "import sys, beside\nprint(__name__, sys.argv, sys.path[0], __file__)\n"
    (tmp_path / "__main__.py").write_text(text)
    (tmp_path / "beside.py").write_text("")
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("__main__.py", text)
        made.writestr("beside.py", "")

    assert both(str(tmp_path), "x").returncode == 0
    assert both(str(archive), "x").returncode == 0


def test_a_program_from_stdin(tmp_path: Path) -> None:
    both("-", "x", input=ABOUT_ITSELF, cwd=tmp_path)
    assert both("-", input="1 / 0\n", cwd=tmp_path).returncode == 1


SOURCES = [
    "def broken(:\n",
    "x = '\n",
    "import nothing_like_that\n",
    "# -*- coding: latin-1 -*-\nprint('\xe4')",
    "print('a\u00e4')",
    "from __future__ import annotations\nx: y = 1\nprint(__annotations__)",
]


@pytest.mark.parametrize("text", SOURCES)
def test_what_the_compiler_says_is_the_same(text: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_bytes(text.encode("latin-1" if "latin" in text else "utf-8"))

    both(str(path))


def test_a_program_that_is_not_there() -> None:
    done = run(*POOLED, "/nothing/like/that.py")
    bare = run(*BARE, "/nothing/like/that.py")

    assert (done.returncode, done.stdout, done.stderr) == (2, "", bare.stderr)
    assert run(*POOLED, "-m", "nothing_like_that").stderr == (
        run(*BARE, "-m", "nothing_like_that").stderr
    )


# -- that it is pooled -----------------------------------------------------------------------------

COUNTING = """
import sqlite3, sys
opened = []
class Counted(sqlite3.Connection):
    def __init__(self, *args, **kwargs):
        opened.append(1)
        super().__init__(*args, **kwargs)
for _ in range(10):
    conn = sqlite3.connect(sys.argv[1], factory=Counted)
    conn.execute("SELECT 1")
    conn.close()
print(len(opened))
"""


@pytest.mark.parametrize(
    ("options", "opened"),
    [((), 1), (("--driver", "sqlite3"), 1), (("--driver", "json"), 10), (("--max-size", "1"), 1)],
)
def test_connects_are_pooled(
    options: tuple[str, ...], opened: int, program: Any, file: str
) -> None:
    done = run(*POOLED, *options, program(COUNTING), file)

    assert (done.stdout, done.returncode) == (f"{opened}\n", 0)


def test_max_size_is_a_bound(program: Any, file: str) -> None:
    text = (
        "import sqlite3, sys\n"
        "first = sqlite3.connect(sys.argv[1])\n"
        "try:\n    sqlite3.connect(sys.argv[1])\n"
        "except sqlite3.OperationalError as exc:\n"
        "    print(type(exc).__name__, 'max_size' in str(exc))\n"
    )
    done = run(*POOLED, "--max-size", "1", program(text), file)

    assert (done.stdout, done.returncode) == ("PoolDeadlock True\n", 0)


def test_stats_tell_what_was_saved_and_no_secret(program: Any, file: str) -> None:
    text = COUNTING + "sqlite3.connect(':memory:').close()\n"
    done = run(*POOLED, "--stats", program(text), file)

    lines = done.stderr.splitlines()
    assert lines[0] == "dbapi-pool: sqlite3: 11 connects, 2 opened (1 of them not pooled), 9 saved"
    assert lines[1].startswith("dbapi-pool: sqlite3: opening took ")
    assert lines[2] == "dbapi-pool: sqlite3-1: 10 connects, 1 opened, 0 waited"
    assert run(*POOLED, "--stats", program("")).stderr == "dbapi-pool: nothing was connected to\n"


def test_stats_are_told_once_by_the_process_that_was_asked(file: str) -> None:
    done = run(*POOLED, "--stats", ENDS, "forks", file)

    assert done.stderr.count("dbapi-pool: sqlite3:") == 2
    assert done.stdout.startswith("child (1,)\nparent (2,) 7")


SECRETIVE = """
class Error(Exception): pass
class Connection:
    def cursor(self): raise Error
    commit = rollback = close = lambda self: None
def connect(dsn=None, **kwargs): return Connection()
"""


def test_pools_are_named_by_where_they_lead_and_never_by_a_secret(program: Any) -> None:
    program(SECRETIVE, "secretive.py")
    text = (
        "import secretive\n"
        "secretive.connect(host='db-1', port=5432, user='me', password='s3cret', dbname='shop')\n"
        "secretive.connect('postgresql://me:s3cret@db/shop')\n"
        "secretive.connect(host='db', dbname='postgresql://me:s3cret@db/shop')\n"
        "secretive.connect(host='db', user='password=s3cret')\n"
    )
    path = program(text)
    done = run(
        *POOLED, "--driver", "secretive", "--stats", path,
        env={**os.environ, "PYTHONPATH": str(Path(path).parent)},
    )  # fmt: skip

    assert "secretive-1 (me db-1 5432 shop): 1 connect, 1 opened, 0 waited" in done.stderr
    for number in (2, 3, 4):
        assert f"secretive-{number}: 1 connect, 1 opened, 0 waited" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "what shall be run? A PROGRAM, or -m MODULE"),
        (("--max-size", "0", "x.py"), "'0': must be a whole number, 1 or more"),
        (("--max-size", "many", "x.py"), "'many': must be a whole number"),
        (("--driver", "nothing_like_that", "x.py"), "'nothing_like_that': there is no such module"),
        (("--driver", "nothing.like.that", "x.py"), "'nothing.like.that': there is no such module"),
        (("--unknown", "x.py"), "unrecognized arguments"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], text: str) -> None:
    done = run(*POOLED, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_help_and_the_list_of_commands() -> None:
    assert "--max-size N" in run(*POOLED, "--help").stdout
    pytest.importorskip("click")
    assert "run " in run(*POOLED[:-1], "--help").stdout


def test_it_needs_neither_click_nor_rich_nor_a_pool_to_start(program: Any) -> None:
    heavy = "{'click', 'rich', 'dbapi_pool.pool', 'sqlite3', 'logging'}"
    path = program(f"import sys\nprint(sorted({heavy} & set(sys.modules)))")

    assert run(*POOLED, "--driver", "sqlite3", path).stdout == "[]\n"


def test_a_path_that_looks_like_an_archive_is_looked_at(tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_text("print('text')")

    assert Program.path(str(odd), ()).first_path == str(tmp_path)
    assert both(str(odd)).stdout == "text\n"


def test_the_database_is_as_without(file: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other.db")
    for how, path in ((BARE, file), (POOLED, other)):
        arguments = {**os.environ, "ARGUMENTS": json.dumps({"database": path})}
        run(*how, str(FOLDER / "legacy_idioms.py"), "sqlite3", env=arguments)

    dumps = []
    for path in (file, other):
        conn = sqlite3.connect(path)
        dumps.append(list(conn.iterdump()))
        conn.close()
    assert dumps[0] == dumps[1]
