"""`python -m asymtalker.batch clips.csv --out folder` renders a table of clips on many ComfyUI servers, through Ray.

Importing it imports neither Ray nor PyTorch.
"""
