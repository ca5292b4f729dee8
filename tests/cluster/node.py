"""A real one-node Kubernetes on this machine, in namespaces of its own: no container engine, no registry, no trace.

    python -m tests.cluster.node FOLDER BINARIES IMAGE.tar...     # inside `unshare`; see `Node`

Everything runs below one process that is PID 1 of its own PID namespace, with its own network and mounts. When that
process ends the kernel ends all others and drops bridges, routes, iptables rules and mounts; what is left are folders
and control groups, which `Node.stop` removes.
"""

import contextlib
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import yaml

# From here into the node: a pair of virtual interfaces. Pods and Services are routed through it.
HERE, NODE = "10.247.0.1", "10.247.0.2"
LINK = ipaddress.ip_network("10.247.0.0/30")
PODS = ipaddress.ip_network("10.244.0.0/24")
SERVICES = ipaddress.ip_network("10.96.0.0/16")
BRIDGE = str(PODS[1])  # the node's address among its pods, where kubelet and DNS listen
API = f"https://{NODE}:6443"
TOKEN = "e2e"  # of a cluster that nobody else reaches
NAME = "node1"
READY_SECONDS = 120


class Node:
    """The cluster, from outside.

    Args:
        folder: its state; made, and removed by `stop`.
        binaries: the folder with Kubernetes, etcd and CoreDNS.
        images: docker archives, loaded before anything starts.
    """

    def __init__(self, folder: Path, binaries: Path, images: list[Path]) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig.yaml"
        self.log = folder / "log"
        self._cgroup = f"hive-e2e-{os.getpid()}"
        self._link = f"hive{os.getpid() % 100000}"
        self.log.mkdir(parents=True)
        self.kubeconfig.write_text(kubeconfig())
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        inside = [sys.executable, "-m", "tests.cluster.node", folder, binaries, self._cgroup, *images]
        with (self.log / "node.log").open("w") as log:
            self._process = subprocess.Popen(
                [*command, *map(str, inside)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            self._connect()
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and remove all that it left."""
        self._process.kill()
        self._process.wait()
        subprocess.run(["ip", "link", "del", self._link], check=False, capture_output=True)  # gone with the namespace
        for mount in reversed(mounts_below(self.folder)):
            subprocess.run(["umount", "--lazy", mount], check=False)
        for _ in attempts():  # a group can't be removed before the last of its processes is
            for group in cgroups(self._cgroup):
                with contextlib.suppress(OSError):
                    group.rmdir()
            if not cgroups(self._cgroup):
                break
        shutil.rmtree(self.folder, ignore_errors=True)

    def leftovers(self) -> list[str]:
        """What `stop` should have removed and has not."""
        links = subprocess.run(["ip", "-br", "link"], check=True, capture_output=True, text=True).stdout.splitlines()
        rules = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True).stdout.splitlines()
        programs = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
        return [
            *(f"mount {path}" for path in mounts_below(self.folder)),
            *(f"control group {path}" for path in cgroups(self._cgroup)),
            *(f"interface {line}" for line in links if line.startswith((self._link, "cni0"))),
            *(f"rule {line}" for line in rules if "KUBE-" in line),
            *(f"process {words}" for words in programs if any(str(self.folder) in word for word in words)),
        ]

    def _connect(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        said = self._process.stdout.readline()
        if said != "namespace\n":
            raise RuntimeError(f"the node did not start:\n{(self.log / 'node.log').read_text()}")
        pid = child_of(self._process.pid)
        run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        run("ip", "addr", "add", f"{HERE}/{LINK.prefixlen}", "dev", self._link)
        run("ip", "link", "set", self._link, "up")
        for network in (PODS, SERVICES):
            run("ip", "route", "add", str(network), "via", NODE)
        self._process.stdin.write("connected\n")
        self._process.stdin.flush()

    def _wait(self) -> None:
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if said != "ready\n":
            raise RuntimeError(f"the cluster did not start:\n{(self.log / 'node.log').read_text()[-3000:]}")


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)  # stdout is the way to the test


def child_of(pid: int) -> int:
    """The one child of `unshare`: PID 1 of the namespace."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def mounts_below(folder: Path) -> list[str]:
    return [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line.split()[1]]


def cgroups(name: str) -> list[Path]:
    """All groups of this cluster, the innermost first."""
    found = [Path(folder) for root in Path("/sys/fs/cgroup").glob(f"**/{name}") for folder, *_ in os.walk(root)]
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def kubeconfig() -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "e2e", "cluster": {"server": API, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "admin"}}],
            "current-context": "e2e",
        }
    )


# -- inside ----------------------------------------------------------------------------------------------------------


class Inside:
    """PID 1 of the namespace: starts the parts, and ends when the test does."""

    def __init__(self, folder: Path, binaries: Path, cgroup: str, images: list[Path]) -> None:
        self.folder, self.binaries, self.cgroup, self.images = folder, binaries, cgroup, images
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self.kubeconfig = folder / "kubeconfig.yaml"

    def main(self) -> None:
        print("namespace", flush=True)
        sys.stdin.readline()
        self.network()
        self.control_plane()
        self.runtime()
        self.kubelet()
        self.dns()
        self.wait(self.node_ready, "the node")
        print("ready", flush=True)
        threading.Thread(target=self.end_with_the_test, daemon=True).start()
        while True:  # PID 1 gets the children of all that died
            os.wait()

    def end_with_the_test(self) -> None:
        """However the test ends, its end of the pipe closes."""
        sys.stdin.read()
        os._exit(0)

    def network(self) -> None:
        for command in (
            "ip link set lo up",
            f"ip addr add {NODE}/{LINK.prefixlen} dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {HERE}",
            # kubelet's --node-ip must be an address of this host before it starts.
            "ip link add cni0 type bridge",
            f"ip addr add {BRIDGE}/{PODS.prefixlen} dev cni0",
            "ip link set cni0 up",
        ):
            run(*command.split())
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        with contextlib.suppress(OSError):  # where bridges pass iptables at all
            Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("1")

    def control_plane(self) -> None:
        folder = self.folder
        (folder / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        run("openssl", "genrsa", "-out", str(folder / "sa.key"), "2048")
        self.start(
            "etcd",
            f"--data-dir={folder}/etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        )
        self.start(
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--cert-dir={folder}/certs",
            "--secure-port=6443",
            f"--advertise-address={NODE}",
            f"--service-cluster-ip-range={SERVICES}",
            f"--service-account-key-file={folder}/sa.key",
            f"--service-account-signing-key-file={folder}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--kubelet-preferred-address-types=InternalIP",
        )
        self.wait(lambda: self.get("/readyz").is_success, "the API server")
        self.start(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={folder}/sa.key",
            f"--root-ca-file={folder}/certs/apiserver.crt",
            "--allocate-node-cidrs=false",
        )
        self.start("kube-scheduler", f"--kubeconfig={self.kubeconfig}")

    def runtime(self) -> None:
        folder = self.folder
        (folder / "cni").mkdir()
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": f"{folder}/ipam",
                "ranges": [[{"subnet": str(PODS)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        chain = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
        (folder / "cni" / "10-bridge.conflist").write_text(
            json.dumps({"cniVersion": "0.4.0", "name": "bridge", "plugins": chain})
        )
        # restrict_oom_score_adj: a host without CAP_SYS_RESOURCE can't lower it, and runc would die of that.
        (folder / "containerd.toml").write_text(f"""
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "hive.local/base:e2e"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
""")
        self.start("containerd", f"--config={folder}/containerd.toml")
        self.wait((folder / "containerd.sock").exists, "containerd")
        for image in self.images:
            run("ctr", f"--address={folder}/containerd.sock", "--namespace=k8s.io", "images", "import", str(image))

    def kubelet(self) -> None:
        folder = self.folder
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "cgroupsPerQOS": True,
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "clusterDNS": [BRIDGE],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "2%", "imagefs.available": "2%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "resolvConf": "",
            "readOnlyPort": 0,
        }
        (folder / "kubelet.yaml").write_text(yaml.safe_dump(config))
        for controller in Path("/sys/fs/cgroup").iterdir():  # version 1 has a tree for each controller
            if controller.is_dir() and not controller.is_symlink():
                with contextlib.suppress(OSError):
                    (controller / self.cgroup).mkdir(exist_ok=True)
        self.start(
            "kubelet",
            f"--config={folder}/kubelet.yaml",
            f"--kubeconfig={self.kubeconfig}",
            f"--root-dir={folder}/kubelet",
            f"--hostname-override={NAME}",
            f"--node-ip={BRIDGE}",
        )
        self.start(
            "kube-proxy",
            f"--kubeconfig={self.kubeconfig}",
            f"--hostname-override={NAME}",
            "--proxy-mode=iptables",
            f"--cluster-cidr={PODS}",
            "--conntrack-max-per-core=0",
        )

    def dns(self) -> None:
        (self.folder / "Corefile").write_text(f"""
cluster.local:53 {{
  bind {BRIDGE}
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {self.kubeconfig}
  }}
  errors
}}
""")
        self.start("coredns", "-conf", str(self.folder / "Corefile"))

    def start(self, name: str, *flags: str) -> None:
        program = self.binaries / name
        with (self.folder / "log" / f"{name}.log").open("w") as log:
            self.parts[name] = subprocess.Popen(
                [str(program) if program.exists() else name, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PATH": f"{self.binaries}:/usr/sbin:/usr/bin:/sbin:/bin"},
            )

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{API}{path}", headers={"Authorization": f"Bearer {TOKEN}"}, verify=False, timeout=5)

    def node_ready(self) -> bool:
        answer = self.get(f"/api/v1/nodes/{NAME}")
        if not answer.is_success:
            return False
        conditions = answer.json()["status"]["conditions"]
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        for _ in attempts():
            for name, part in self.parts.items():
                if part.poll() is not None:
                    raise RuntimeError(f"{name} ended with {part.returncode}; see its log")
            with contextlib.suppress(httpx.HTTPError):
                if ready():
                    return
        raise RuntimeError(f"{what} is not ready after {READY_SECONDS} s")


def attempts() -> Iterator[None]:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        yield
        time.sleep(0.2)


if __name__ == "__main__":
    folder, binaries, cgroup, *images = sys.argv[1:]
    Inside(Path(folder), Path(binaries), cgroup, [Path(image) for image in images]).main()
