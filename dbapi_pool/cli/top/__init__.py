"""`dbapi-pool top`: the pools of another process in a terminal, as its dashboard tells them.

Must never know a pool: it only reads what `data.json` says.
"""
