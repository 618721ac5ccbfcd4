"""Pure PyTorch: the talking-head network family, its audio path, the sampler and the rollout over chunks.

Nothing in here depends on ComfyUI. The dependencies run one way:
``config`` <- ``layers`` <- ``dit``; ``audio``, ``reference``, ``flow``, ``color`` <- ``rollout``.
"""
