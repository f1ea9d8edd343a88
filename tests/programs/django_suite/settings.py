"""Settings for Django's own test suite: databases as the environment says."""

import json
import os
import sys

DATABASES = json.loads(os.environ["SUITE_DATABASES"])
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SECRET_KEY = "for the tests"
TEST_RUNNER = "runner.Runner"
USE_TZ = False

# The suite wants Django's driver of MySQL, and has imported it where it is installed; `pymysql` poses
# as it.
if os.environ["SUITE_DRIVER"] == "pymysql":
    import pymysql

    for name in [name for name in sys.modules if name.partition(".")[0] == "MySQLdb"]:
        del sys.modules[name]
    pymysql.version_info = (2, 2, 7, "final", 0)
    pymysql.install_as_MySQLdb()
# Django takes psycopg where that is installed.
if os.environ["SUITE_DRIVER"] == "psycopg2":
    sys.modules["psycopg"] = None
