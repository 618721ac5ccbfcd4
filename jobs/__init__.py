"""One generation: its identity, its rollout to disk, and how it resumes."""
