"""Real videos: from mp4 files to prepared clips, and back to measurements."""
