"""`dbapi-pool bench`: somebody's database with a new connection for each request, and with pools.

`statement` what may be run, `ways` how a request gets its connection, `rounds` threads that send
requests for a while, `comparison` all ways by turns and what came of them, `report` how it looks,
`command` the options.
"""
