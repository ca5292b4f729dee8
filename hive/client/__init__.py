"""The Python client. What is public of it is exported by `hive` itself.

`asking` (what is asked, sent and answered) and `batches` (many at once) know no HTTP; `addresses`
finds a Hive; `connections` keeps the official client's; `sessions` ask with them; `inference` has the calls.
"""
