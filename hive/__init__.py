"""What a person uses: the `hive` command. Imports nothing of Ray or torch.

`target` is one Hive, whichever: `local` runs it on this machine, `cluster` is a Helm release. `deploying` edits values
through it, `values_file` writes them. `rendering`, `placement` and `changes` are functions of data; `serve_api`,
`ray_nodes`, `replica_logs`, `agent_api` and `catalog` ask a running Hive; `plan` says before what a values file needs;
`views` draws; `commands` and `cli` are the command.
"""
