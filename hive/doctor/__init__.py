"""`hive doctor`: what is wrong with a Hive or with the place where it shall run, and what mends it.

Checks are functions of data to findings; `cluster` and `machine` read the data, `jobs` runs the one that needs a job.
"""
