"""`dbapi-pool demo`: an order-processing rush, through one pool and with a connection per order.

`database` reaches a database, `workload` says what a shop does in it, `audit` whether its books add
up, `contenders` holds the two ways of getting a connection, `runner` the threads, `comparison` who
does what when, `report` what is printed, and `command` the options. Must never know a driver but
through its plugin.
"""
