"""Benchmarks of connection pools: `python -m benchmarks`.

`adapters` are the pools, `drivers` what they pool, `measures` what is measured, `targets` what was
promised; `report` and `plot` write docs/performance.md. `guard` is another program: it counts what
the core executes. None of them may change what it measures, nor reach behind a pool where a user
would not.
"""
