"""What stands beside Envoy: it tells Envoy where replicas are and which keys are good, and lists the models.

Envoy takes every request; this process takes none of them but `/v1/models`, and when it is away Envoy goes on with
what it was told last. Room rules: `replicas`, `envoy` and `catalog` are functions of data; `keys` reads the Secret's
files; `discovery` asks Ray Serve and writes Envoy's files; `server` answers. Needs aiohttp and pydantic; imports
nothing of Ray. `form.lua` runs inside Envoy.
"""
