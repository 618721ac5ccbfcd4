"""VIDEO objects: lazy ones over frames on disk, any that comes in, and files that are saved."""
