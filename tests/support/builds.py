"""What kind of Python runs the tests."""

from __future__ import annotations

import sysconfig

FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
"""Whether it was built to run without the GIL."""
