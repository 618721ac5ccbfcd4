"""Adapts ComfyUI: stock MODEL, VAE and AUDIO_ENCODER objects, folders, progress, videos. No method code."""
