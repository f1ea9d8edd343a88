"""What is measured: one function each, with a docstring that tells what, in what unit, what is ideal.

Importing this package registers them in `measuring.MEASURES`, in the order of the document.
"""

from . import cycle, promises, overhead, waiting, growth, blackhole, real, memory, imports  # noqa: F401, I001
