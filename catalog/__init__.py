"""What data exists, what it means, how sensitive it is and who may have it.

The YAML files below this package are declarations; the Python here only reads, checks and writes them out.
"""
