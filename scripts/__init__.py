"""The commands of the README: `talk.py` makes a video, `test.py` runs the checks."""
