"""Benchmarks: what RAT costs, beside named peers, in one run each.

`python benchmarks/NAME.py` prints a table and writes its section of docs/benchmarks.md.
"""
