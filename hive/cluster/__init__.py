"""Hive on a cluster: a Helm release, reached through the kubeconfig.

`kubernetes` is the API server and port-forwards, `release` is Helm, `objects` reads what they say, `target` joins them.
"""
