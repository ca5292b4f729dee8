"""Hive on this machine: plays the parts of kubelet and KubeRay with what the chart rendered.

It starts the very commands of the rendered containers, with their environment. It changes what a pod would have mounted
(where the code, the models and the agent's socket are) and what Ray nodes of one host can't share. Jobs run on the
head.
"""
