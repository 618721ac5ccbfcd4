"""One training program a file."""
