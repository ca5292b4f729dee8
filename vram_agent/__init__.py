"""The VRAM agent: runs on every GPU node, owns the ledger of that node's devices, grants leases.

Room rules: imports nothing of Ray, torch or Kubernetes. `api` is what crosses the wire, and the one module that other
packages import. `records`, `ledger` and `views` are functions of data. `devices`, `nvml`, `host_memory`, `sources` and
`processes` read the machine, `store` is the one file, `server` the one that knows HTTP; `orphans` ends what outlives
its holder; `agent` joins them.
"""
