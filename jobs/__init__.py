"""One generation: what it is, its rollout onto the disk, and how it resumes."""
