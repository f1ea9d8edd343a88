"""A program that knows of no pool, and how it may end: `legacy_ends.py HOW FILE`, on sqlite3."""

from __future__ import annotations

import atexit
import os
import signal
import sqlite3
import sys
import threading
import time
import traceback

how, file = sys.argv[1:]
conn = sqlite3.connect(file)
cur = conn.cursor()


class Odd:
    def __str__(self):
        return "an odd reason"


def fail():
    conn.execute("SELECT nothing")


def wait():
    print("ready", flush=True)
    time.sleep(60)


def chained():
    try:
        fail()
    except sqlite3.Error as exc:
        raise ValueError("because of that") from exc


def context():
    try:
        fail()
    finally:
        cur.execute("AND THAT")


def printed():
    try:
        fail()
    except sqlite3.Error:
        traceback.print_exc()
        sys.stderr.write(traceback.format_exc())


def in_thread():
    thread = threading.Thread(target=lambda: sqlite3.connect(file).execute("BAD"), name="worker")
    thread.start()
    thread.join()


def late():
    def work():
        while threading.main_thread().is_alive():
            time.sleep(0.001)
        done = sqlite3.connect(file).execute("SELECT 'after the main thread'").fetchone()
        print(done[0], how, sys.modules["__main__"].how)

    threading.Thread(target=work).start()


def at_exit():
    atexit.register(lambda: print(sqlite3.connect(file).execute("SELECT 'at exit'").fetchone()))


def forked():
    child = os.fork()
    if child == 0:
        print("child", sqlite3.connect(file).execute("SELECT 1").fetchone(), flush=True)
        sys.exit(7)
    _, status = os.waitpid(child, 0)
    print("parent", conn.execute("SELECT 2").fetchone(), os.waitstatus_to_exitcode(status))


def closed():
    conn.close()
    conn.execute("SELECT 1")


def refused():
    sqlite3.connect(file, timeout="soon")


WAYS = {
    "returns": lambda: print("done"),
    "exits": lambda: sys.exit(3),
    "exits with text": lambda: sys.exit("a reason"),
    "exits with an object": lambda: sys.exit(Odd()),
    "exits with none": lambda: sys.exit(None),
    "raises": fail,
    "raises another": chained,
    "raises twice": context,
    "prints": printed,
    "interrupts itself": lambda: signal.raise_signal(signal.SIGINT),
    "terminates itself": lambda: signal.raise_signal(signal.SIGTERM),
    "waits": wait,
    "fails in a thread": in_thread,
    "thread goes on": late,
    "connects at exit": at_exit,
    "forks": forked,
    "uses what is closed": closed,
    "is refused": refused,
    "leaves at once": lambda: os._exit(9),
    "raises KeyboardInterrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt("by hand")),
}
WAYS[how]()
