"""What kind of sensitive item a column holds, told from its name (`names`) and from its values (`content`).

A detector only suggests: it names a kind of item, and `catalog.grading` says what grade that kind has. Both work on
columns as a whole and never return a value, only counts.
"""
