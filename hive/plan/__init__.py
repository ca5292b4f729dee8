"""`hive plan`: what a values file needs and where it would run, before anything is installed.

`needs` sizes a model, `scenario` is what is asked and what is there, `planning` puts one on the other, `advice` finds
what would make it fit, `terminal` and `documents` show it: functions of data. `reading` and `values_file` touch files.
"""
