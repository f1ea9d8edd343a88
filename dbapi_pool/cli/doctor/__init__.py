"""`dbapi-pool doctor`: looks at somebody's database through one driver, and says what to set.

`abilities` and `costs` what is found out, `findings` the record of it,
`advice` the rules, `report` how it looks, `command` the options. Nothing here writes to the database.
"""
