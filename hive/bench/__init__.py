"""`hive bench`: a small measured load on one model. `load` sends it, `figures` makes it readable."""
