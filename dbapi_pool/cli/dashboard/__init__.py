"""`dbapi-pool dashboard`: a program with a page of its pools beside it.

Must never know what the page shows.
"""
