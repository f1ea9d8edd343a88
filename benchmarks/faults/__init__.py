"""What borrowers see when servers die and networks lie: ours and others, under the same faults.

`python -m benchmarks.faults` runs each fault once, against all pools at the same moment, on private
servers behind a relay of each pool's own, and judges what was seen.
"""
