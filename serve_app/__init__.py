"""What runs inside Ray: the replica of a model (`model`) and the entrypoint of a worker (`worker`).

Room rules: `args`, `layout` and `weights` are pure; only `checkpoint` looks into checkpoints, only `lease` talks to the
VRAM agent, and only `model` imports Ray. vLLM is reached through Ray's public `ray.serve.llm` alone: its own modules
move every release.
"""
