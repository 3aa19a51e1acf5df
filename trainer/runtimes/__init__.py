"""Runtimes: where models answer. One module each behind the literal table in `runtimes.table`."""
