"""The procedural talking-head corpus: faces drawn by a 2D vector library, moved by synthesised speech."""
