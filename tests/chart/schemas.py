"""JSON Schemas for kubeconform: Kubernetes' own from the package kubernetes-validate, others' from their CRDs."""

import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.chart.helm import ROOT

Json = dict[str, Any]

KUBERNETES = [f"1.{minor}.0" for minor in range(28, 35)]
BUNDLED = Path(kubernetes_validate.__file__).with_name("kubernetes-json-schema")
CRD_FILE = "ray.io_rayservices.yaml"
GATEWAY_API = "sigs.k8s.io/gateway-api@v1.4.0"
ROUTE_FILE = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"


def crd_folder() -> Path | None:
    """The folder with KubeRay's CRDs: $KUBERAY_CRDS, or shared/crds beside the repository."""
    folder = Path(os.environ.get("KUBERAY_CRDS", ROOT.parent / "shared" / "crds"))
    return folder if (folder / CRD_FILE).exists() else None


@functools.cache
def route_crd() -> Path | None:
    """HTTPRoute's CRD, from the Go module of the Gateway API; None where Go can't get it."""
    go = shutil.which("go")
    if go is None:
        return None
    done = subprocess.run(
        [go, "mod", "download", "-json", GATEWAY_API],
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        check=False,
    )
    return Path(json.loads(done.stdout)["Dir"], ROUTE_FILE) if done.returncode == 0 else None


def prepare(target: Path, objects: Iterable[Json]) -> list[str]:
    """Write the schemas of these objects' kinds, and RayService's and HTTPRoute's where their CRDs are there.

    Returns:
        kubeconform's arguments that make it look there and nowhere else.
    """
    stems = {_stem(obj) for obj in objects} | {"_definitions"}
    for version in KUBERNETES:
        name = f"v{version}-local-strict"
        (target / name).mkdir(parents=True)
        for stem in stems:
            text = (BUNDLED / name / f"{stem}.json").read_text()
            schema = json.loads(text.replace('"/api/_definitions.json#', '"_definitions.json#'))
            schema.pop("$id", None)
            (target / name / f"{stem}.json").write_text(json.dumps(schema))
    (target / "crd").mkdir()
    folder = crd_folder()
    for name, file in {"rayservice-ray-v1": folder and folder / CRD_FILE, "httproute-gateway-v1": route_crd()}.items():
        if file:
            crd = yaml.load(file.read_text(), yaml.CSafeLoader)
            (target / "crd" / f"{name}.json").write_text(json.dumps(crd_schema(crd)))
    places = (
        "{{.NormalizedKubernetesVersion}}-local{{.StrictSuffix}}/{{.ResourceKind}}{{.KindSuffix}}.json",
        "crd/{{.ResourceKind}}{{.KindSuffix}}.json",
    )
    return [argument for place in places for argument in ("-schema-location", f"{target}/{place}")]


def _stem(obj: Json) -> str:
    """kubeconform's name for a kind: daemonset-apps-v1, configmap-v1."""
    group, _, version = obj["apiVersion"].rpartition("/")
    return "-".join(filter(None, (obj["kind"].lower(), group.partition(".")[0], version)))


def crd_schema(crd: Mapping[str, Any], version: str = "v1") -> Json:
    """The strict schema of one served version: a key it does not name is an error."""
    found = next(v for v in crd["spec"]["versions"] if v["name"] == version)
    return _strict(found["schema"]["openAPIV3Schema"])


def _strict(node: Mapping[str, Any]) -> Json:
    # Only where a structural schema may name fields: anyOf, oneOf, allOf and not hold checks of values, which a closed
    # object would turn into refusals.
    out: Json = dict(node)
    if "properties" in node:
        out["properties"] = {key: _strict(value) for key, value in node["properties"].items()}
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            out["additionalProperties"] = False
    if isinstance(node.get("items"), Mapping):
        out["items"] = _strict(node["items"])
    if isinstance(node.get("additionalProperties"), Mapping):
        out["additionalProperties"] = _strict(node["additionalProperties"])
    if node.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if node.get("nullable") and "type" in out:
        out["type"] = [out["type"], "null"]
    return out
