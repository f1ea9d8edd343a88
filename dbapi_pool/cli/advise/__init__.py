"""`dbapi-pool advise`: how large the pools of a fleet of processes should be, and why.

`workload` what they are to do, `plan` what that needs and what the server gives, `pooler` what to do
where that is less, `simulation` the pool itself under this workload on a virtual clock, `report` how
it looks, `command` the options. Nothing here writes to the database.
"""
