"""The `hive` command, one module for each of its commands; `shared` is what they have in common."""
