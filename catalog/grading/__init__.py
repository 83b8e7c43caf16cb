"""Grading: from a kind of item to the level of a field, of a table, of a resource (domain reference §2.1–2.4).

`declarations` reads what the rules say, `fields` suggests the level of a column, `tables` raises a table by what its
rows add up to, `classify` labels a resource. Nothing here reads the lake: counts are handed in.
"""
