"""`dbapi-pool run`: an unchanged program, whose connects are pooled.

Must never need click, so that it starts quickly, and no program sees more of the command line than it
must.
"""
