"""Checkpoint files: found in ComfyUI's folders, recognised, renamed and loaded as stock objects."""
