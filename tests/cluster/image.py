"""The one image of the test: a small Debian, with the project's Python environment mounted from this machine.

Stands for the stock image and for Envoy's. A docker archive, which containerd loads without a registry.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from hive.rendering import ROOT

NAME = "hive.local/base:e2e"
# What Python, Ray and the operator's probes and commands need. procps: Ray's own check of its processes.
PACKAGES = (
    "bash,ca-certificates,libbz2-1.0,libffi8,libgomp1,liblzma5,libncursesw6,libnuma1,libreadline8,libsqlite3-0,libssl3,"
    "libstdc++6,libuuid1,procps,wget,zlib1g"
)
PYTHON = Path(sys.base_prefix)
ENVIRONMENT = Path(sys.prefix)


def mounts() -> list[Path]:
    """Folders of this machine that the pods need at the same paths."""
    return [PYTHON, ENVIRONMENT]


def build(folder: Path) -> Path:
    """The archive; made once, in about a minute.

    Raises:
        subprocess.CalledProcessError: debootstrap failed.
    """
    archive = folder / "base.tar"
    if archive.exists():
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    release = next(
        line.partition("=")[2]
        for line in Path("/etc/os-release").read_text().splitlines()
        if line.startswith("VERSION_CODENAME=")
    )
    if not (root / "done").exists():
        subprocess.run(["rm", "-rf", str(root)], check=True)
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release, str(root)], check=True)
        # The user of the stock image.
        subprocess.run(["chroot", str(root), "useradd", "--uid=1000", "--gid=100", "--create-home", "ray"], check=True)
        (root / "root").chmod(0o755)  # this machine's Python may lie below it
        (root / "done").touch()
    layer = folder / "layer.tar"
    leave_out = ["--exclude=./var/cache", "--exclude=./done"]
    subprocess.run(["tar", "-C", str(root), *leave_out, "-cf", str(layer), "."], check=True)
    partial = archive.with_suffix(".partial")
    write(partial, layer, path=f"{ENVIRONMENT}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    layer.unlink()
    os.replace(partial, archive)
    return archive


def write(archive: Path, layer: Path, path: str) -> None:
    """One layer as a docker archive."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        # The entrypoint is that of the pods' sandboxes; Hive's containers all say their command.
        "config": {"Env": [f"PATH={path}"], "User": "1000:100", "Entrypoint": ["sleep", "infinity"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}"]},
        "history": [{}],
    }
    content = json.dumps(config).encode()
    name = f"{hashlib.sha256(content).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [NAME], "Layers": ["base/layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, arcname="base/layer.tar")
        for file, data in ((name, content), ("manifest.json", manifest)):
            info = tarfile.TarInfo(file)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    print(build(ROOT / ".hive" / "e2e" / "image"))
