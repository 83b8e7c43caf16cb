"""Source systems that keep records and hand them over once a day, a week, a month or a year.

One ``Feed`` a source: what it writes down (the truth), when it delivers, in which form, and which slips happen in it.
"""
