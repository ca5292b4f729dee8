"""What Helm runs beside an install or an upgrade: what KubeRay leaves undone, and the check of `helm test`."""
