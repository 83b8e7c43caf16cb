"""Side-by-side measurements with named peers (see README.md)."""
