"""What the process of DBUtils' own tests is told by its environment; no more than that."""

RESULTS = "DBUTILS_SUITE_RESULTS"
"""The file to write the outcomes into."""

PROBES = "DBUTILS_SUITE_PROBES"
"""If set, looks at private attributes are answered."""
