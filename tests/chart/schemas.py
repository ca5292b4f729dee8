"""JSON Schemas for kubeconform: Kubernetes' own from the package kubernetes-validate, all others from CRDs.

KubeRay's CRDs are in a folder, those of other projects in their Go modules.
"""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.chart.helm import ROOT, tool

Json = dict[str, Any]

KUBERNETES = [f"1.{minor}.0" for minor in range(28, 35)]
BUNDLED = Path(kubernetes_validate.__file__).with_name("kubernetes-json-schema")
CRD_FILE = "ray.io_rayservices.yaml"
# Go modules, for module_crd.
PROMETHEUS_OPERATOR = ("github.com/prometheus-operator/prometheus-operator", "v0.90.1")
GATEWAY_API = ("sigs.k8s.io/gateway-api", "v1.4.0")


def crd_folder() -> Path | None:
    """The folder with KubeRay's CRDs: $KUBERAY_CRDS, or shared/crds beside the repository."""
    folder = Path(os.environ.get("KUBERAY_CRDS", ROOT.parent / "shared" / "crds"))
    return folder if (folder / CRD_FILE).exists() else None


@functools.cache
def module_folder(module: str, version: str) -> Path:
    """A Go module's files, in Go's own cache; skips the test where there is no Go."""
    if shutil.which("go") is None:
        pytest.skip(f"Go is missing, which would get the CRDs of {module}")
    command = ["go", "mod", "download", "-json", f"{module}@{version}"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout)["Dir"])


def module_crd(module: str, version: str, path: str) -> Json:
    """A CRD among the files of a Go module."""
    crd: Json = yaml.load((module_folder(module, version) / path).read_text(), yaml.CSafeLoader)
    return crd


def prepare(target: Path, objects: Iterable[Json]) -> list[str]:
    """Write the schemas of these objects' kinds, and RayService's where its CRD is there.

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
    if folder := crd_folder():
        prepare_crd(target / "crd", yaml.load((folder / CRD_FILE).read_text(), yaml.CSafeLoader))
    native = "{{.NormalizedKubernetesVersion}}-local{{.StrictSuffix}}"
    return [*_location(target / native), *_location(target / "crd")]


def prepare_crd(target: Path, crd: Json) -> list[str]:
    """Write the schema of a CRD's v1 into this folder, and say kubeconform's arguments that make it look there."""
    obj = {"kind": crd["spec"]["names"]["kind"], "apiVersion": f"{crd['spec']['group']}/v1"}
    (target / f"{_stem(obj)}.json").write_text(json.dumps(crd_schema(crd)))
    return _location(target)


def _location(folder: Path) -> list[str]:
    return ["-schema-location", f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"]


def kubeconform(objects: Mapping[str, Json], version: str, location: list[str], folder: Path) -> None:
    """Every object is valid, and none was left out."""
    for name, obj in objects.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(obj))
    flags = ["-strict", "-summary", "-output=json", f"-kubernetes-version={version}"]
    command = [tool("kubeconform"), *flags, *location, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 0, f"{done.stderr}{json.dumps(report.get('resources'), indent=1)}"
    assert report["summary"] == {"valid": len(objects), "invalid": 0, "errors": 0, "skipped": 0}


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
