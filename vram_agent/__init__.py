"""The VRAM agent: runs on every GPU node, owns the ledger of that node's devices, grants leases.

Room rules: imports nothing of Ray, torch or Kubernetes. `ledger` is pure; `devices`, `processes`, `store` and `server`
do the I/O; `agent` joins them. `api` is what crosses the wire, and the one module that other packages import.
"""
