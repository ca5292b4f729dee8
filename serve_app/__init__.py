"""What runs inside Ray: the replica of a model (`model`) and the entrypoint of a worker (`worker`).

Room rules: `args`, `sizing`, `pinning`, `weights`, `layout`, `kv_cache`, `kv_layers` and `kv_state` are pure;
`checkpoint` reads files and the hub; `lease` is the only module that talks to the VRAM agent; `model` and `order`
(large models are placed first) are the only ones that import Ray; `amx` is for vLLM's workers on a CPU.
vLLM is reached through Ray's public `ray.serve.llm` alone: its own modules move every release.
"""
