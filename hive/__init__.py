"""What a person uses: the `hive` command. Imports nothing of Ray or torch.

`rendering`, `placement` and `changes` are functions of data; `serve_api` and `agent_api` ask a running Hive; `local`
runs Hive on this machine; `plan` says before what a values file needs; `views` draws; `cli` is the command.
"""
