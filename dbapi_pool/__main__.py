"""`python -m dbapi_pool`: the same as `dbapi-pool`. Holds nothing and must never know anything."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
