"""What runs inside Ray: the replica of a model (`model`) and the entrypoint of a worker (`worker`).

Room rules: `args`, `layout` and `weights` are pure; `checkpoint` is the only module that looks into checkpoints, and
`lease` the only one that talks to the VRAM agent; `model` is the only one that imports Ray. vLLM is reached through Ray's
public `ray.serve.llm` alone: its own modules move every release.
"""
