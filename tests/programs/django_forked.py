"""A Django process that forks while it holds a connection: `django_forked.py DATABASE` (as JSON).

Says "both sides worked" if the child borrows a connection of its own, is refused the parent's
transaction, and the parent goes on.
"""

import json
import os
import sys
import traceback
import warnings

import django
from django.conf import settings

# Python 3.12 warns of every fork beside threads; the pool's own are such threads.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
settings.configure(DATABASES={"default": json.loads(sys.argv[1])}, USE_TZ=True)
django.setup()

from django.db import InterfaceError, connection, transaction  # noqa: E402

from dbapi_pool import ConnectionReturned  # noqa: E402


def select():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]


def in_child(act):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0


def borrow():
    assert select() == 1
    stats = connection.dbapi_pool.stats()
    assert (stats.opened, stats.in_use) == (1, 1)
    connection.close()
    connection.close_pool()


def be_refused():
    refused = None
    try:
        select()
    except InterfaceError as exc:
        refused = exc.__cause__
    assert isinstance(refused, ConnectionReturned), "the child used the parent's transaction"


assert select() == 1
in_child(borrow)
assert select() == 1
with transaction.atomic():
    select()
    in_child(be_refused)
    assert select() == 1
assert connection.dbapi_pool.stats().opened == 1
connection.close()
connection.close_pool()
print("both sides worked")
