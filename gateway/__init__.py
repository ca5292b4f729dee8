"""What stands beside Envoy: it tells Envoy where replicas are and which keys are good, and lists the models.

Envoy takes every request; this process takes none of them but `/v1/models` and the page, and when it is away Envoy goes
on with what it was told last. Room rules: `replicas`, `envoy`, `catalog`, `applications` and `status` are functions of
data; `keys` reads the Secret's files; `discovery` asks Ray Serve and writes Envoy's files; `lookout` asks agents and
counters for the `page`; `server` answers. Needs aiohttp, pydantic and prometheus-client; imports nothing of Ray.
`form.lua` runs inside Envoy, `page.*` in a browser.
"""
