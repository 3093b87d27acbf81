"""Finished runs in, text out: records, statistics, published numbers, comparison tables.

Everything between reading a record and printing a table is a function of data frames: no file,
clock, git or torch inside, and nothing of the other packages is imported.
"""
