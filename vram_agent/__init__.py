"""What runs on every GPU node: samples the devices, holds the leases, answers who may have how many bytes.

Room rules: `api`, `records`, `ledger` and `views` are functions of data; `devices`, `nvml`, `host_memory`, `sources` and
`processes` read the machine; `store` is the one file; `agent` joins them; `server` is the only one that knows HTTP.
Imports nothing of Ray, torch or Kubernetes.
"""
