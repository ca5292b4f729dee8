"""values.yaml -> Helm -> what runs. The chart is the only generator; this module reads what it rendered."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import yaml

from hive import values_file
from hive.errors import HiveError, HiveErrors

ROOT = Path(__file__).resolve().parent.parent
# A wheel carries the chart inside this package.
CHART = next((path for path in (Path(__file__).resolve().parent / "chart", ROOT / "chart") if path.is_dir()), ROOT)
RELEASE = "hive"
ENVOY_FILE = "envoy.yaml"

Json = dict[str, Any]


class Loader(yaml.SafeLoader):
    """YAML as Go reads it, which writes a lone `=` without quotes; YAML 1.1 takes that for a tag."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


@dataclass(frozen=True)
class Container:
    """One container of the rendered pods."""

    command: list[str]
    env: dict[str, str]


@dataclass(frozen=True)
class WorkerGroup:
    """One group of Ray workers."""

    name: str
    replicas: int
    gpus_per_worker: int
    container: Container
    start_params: dict[str, str]


@dataclass(frozen=True)
class Gateway:
    """The gateway's pod."""

    prepare: Container  # runs before the others, and ends
    discovery: Container
    envoy: Container
    files: dict[str, str]  # what is mounted as config/, by file name
    host: str

    @property
    def asks_for_keys(self) -> bool:
        return "HIVE_KEYS_DIR" in self.discovery.env


@dataclass(frozen=True)
class Rendered:
    """What the chart makes of one values file."""

    serve_config: Json
    ray_cluster: Json
    head: Container
    head_params: dict[str, str]
    groups: list[WorkerGroup]
    agent: Container
    gateway: Gateway
    ports: dict[str, int]
    http_host: str
    rollout: str  # what an upgrade does with pods whose template was edited: Announce or Recreate


def render(file: Path) -> Rendered:
    """Render the chart with this file.

    Raises:
        HiveError: no such file, no YAML, or values that the chart refuses; with the mend.
    """
    return render_values(read_values(file))


def load_chart() -> helm_python.Chart:
    """The chart of this Hive."""
    with quiet_stderr():
        return helm_python.Chart.load(CHART)


def chart_version() -> str:
    """Of the chart of this Hive."""
    return str(yaml.safe_load((CHART / "Chart.yaml").read_text())["version"])


def render_values(values: Json, release: str = RELEASE, namespace: str = "default") -> Rendered:
    """Render the chart with these values, as this release.

    Raises:
        HiveError: values that the chart refuses; with the mend.
    """
    chart = load_chart()
    try:
        chart.validate_schema(values)
    except helm_python.HelmValuesError as error:
        raise schema_errors(str(error), chart.schema or {}) from error
    try:
        manifests = chart.render(values, name=release, namespace=namespace)
    except helm_python.HelmRenderError as error:
        raise _validation_errors(str(error)) from error
    merged = chart.merge_values(values)
    objects = [obj for path, text in manifests.items() if path.endswith(".yaml") for obj in _documents(text)]
    service = next(obj for obj in objects if obj["kind"] == "RayService")
    agent = next(obj for obj in objects if obj["kind"] == "DaemonSet")
    gateway = next(obj for obj in objects if obj["kind"] == "Deployment")
    config = next(obj for obj in objects if obj["kind"] == "ConfigMap" and ENVOY_FILE in obj["data"])
    cluster = service["spec"]["rayClusterConfig"]
    serve_config = yaml.load(service["spec"]["serveConfigV2"], Loader)  # noqa: S506 (a SafeLoader)
    return Rendered(
        serve_config=serve_config,
        ray_cluster=cluster,
        head=_containers(cluster["headGroupSpec"]["template"])["ray-head"],
        head_params=cluster["headGroupSpec"]["rayStartParams"],
        groups=[
            WorkerGroup(
                name=group["groupName"],
                replicas=group["replicas"],
                gpus_per_worker=merged["workerGroups"][group["groupName"]]["gpusPerWorker"],
                container=_containers(group["template"])["ray-worker"],
                start_params=_start_params(group),
            )
            for group in cluster["workerGroupSpecs"]
        ],
        agent=_containers(agent["spec"]["template"])["agent"],
        gateway=Gateway(
            **_containers(gateway["spec"]["template"]), files=config["data"], host=merged["gateway"]["host"]
        ),
        ports={name: int(port) for name, port in merged["ports"].items()},
        http_host=serve_config["http_options"]["host"],
        rollout=merged["rollout"]["podTemplate"],
    )


def read_values(file: Path) -> Json:
    """The file's content; see `parse_values`.

    Raises:
        HiveError: it is not there, or no YAML map.
    """
    return parse_values(values_file.read(file), str(file))


def parse_values(text: str, name: str) -> Json:
    """Values as Helm reads them. A key that stands twice is refused, where Helm would drop the first.

    Args:
        name: of the file, for what is said.

    Raises:
        HiveError: it is no YAML map.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise HiveError(f"{name} is no valid YAML: {error}", "mend the line that the message names") from error
    if not isinstance(node, yaml.MappingNode):
        raise HiveError(f"{name} holds no map", "start it with `models:`")
    if twice := list(_twice(node)):
        raise HiveErrors([HiveError(f"{name}, {where}", "keep one of them") for where in twice])
    return helm_python.values_from_yaml(text)


def _twice(node: yaml.Node, path: str = "") -> Iterator[str]:
    """Keys that stand twice in one map."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = f"{path}.{key.value}".lstrip(".")
            if key.value in seen:
                yield f"line {key.start_mark.line + 1}: {name} stands here a second time"
            seen.add(key.value)
            yield from _twice(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _twice(item, path)


def schema_errors(text: str, schema: Json) -> HiveErrors:
    """Helm's schema errors, with the mend from the schema's own descriptions.

    Args:
        text: lines like `- at '/models/a/vram': '22G i' does not match pattern '...'`.
        schema: values.schema.json.
    """
    found: list[HiveError] = []
    said = re.findall(r"- at '([^']*)': (.*)", text)
    for (path, problem), (_, reason) in zip(said, [*said[1:], ("", "")], strict=True):
        if problem in ("validation failed", "") or problem.startswith("allOf"):
            continue
        if name := re.fullmatch(r"invalid propertyName '(.*)'", problem):
            found.append(HiveError(f"{name[1]!r} can't be a name here", _name_rule(schema, reason)))
            continue
        if path == "" and "does not match pattern" in problem:
            continue  # said by the line about the property's name
        field = path.strip("/").replace("/", ".")
        node = _schema_at(schema, path)
        if extra := re.fullmatch(r"additional propert\w+ (.*) not allowed", problem):
            names = ", ".join(f"{field}.{key}".lstrip(".") for key in re.findall(r"'([^']*)'", extra[1]))
            keys = ", ".join(sorted(node.get("properties", {})))
            found.append(HiveError(f"there is no key {names}", f"the keys here are: {keys}"))
        else:
            description = node.get("description", "see chart/values.yaml")
            found.append(HiveError(f"{field or 'values'}: {problem}", f"it is {description}"))
    return HiveErrors(found or [HiveError(text, "see chart/values.yaml")])


def _validation_errors(text: str) -> HiveErrors:
    """What templates/validation.yaml said: ERROR and FIX in turn."""
    pairs = re.findall(r"^ERROR: (.*)\nFIX: (.*)$", text, re.MULTILINE)
    return HiveErrors([HiveError(what, fix) for what, fix in pairs] or [HiveError(text, "this is a bug in the chart")])


def _schema_at(schema: Json, path: str) -> Json:
    """The part of the schema that describes the value at a JSON pointer."""
    node = schema
    for key in filter(None, path.split("/")):
        node = node.get("properties", {}).get(key) or node.get("additionalProperties") or node.get("items") or {}
        if not isinstance(node, dict):
            return {}
        if reference := node.get("$ref"):
            node = schema["$defs"][reference.rpartition("/")[2]]
    return node


def _name_rule(schema: Json, reason: str) -> str:
    """What names can be, by the pattern that one did not match: Helm does not say of which map it is a name."""
    pattern = reason.partition("does not match pattern ")[2].strip("'")
    rules = [rule for names, rule in _name_rules(schema, schema) if names == pattern]
    return rules[0] if rules else "see chart/values.yaml"


def _name_rules(schema: Json, node: Json) -> Iterator[tuple[str, str]]:
    """The pattern of the names of each map, and what it says in words."""
    if names := node.get("propertyNames"):
        if reference := names.get("$ref"):
            names = schema["$defs"][reference.rpartition("/")[2]]
        yield names["pattern"], names.get("description") or node["description"]
    for child in (*node.get("properties", {}).values(), node.get("additionalProperties")):
        if isinstance(child, dict):
            yield from _name_rules(schema, child)


def _start_params(group: Json) -> dict[str, str]:
    """Flags of `ray start` for one group of workers, as KubeRay makes them: CPUs may stand in its resources."""
    cpus = group.get("resources", {}).get("CPU")
    return {**group["rayStartParams"], **({} if cpus is None else {"num-cpus": cpus})}


def _documents(text: str) -> list[Json]:
    return [document for document in yaml.load_all(text, Loader) if document]


def _containers(template: Json) -> dict[str, Container]:
    """Of one pod, by name."""
    spec = template["spec"]
    return {
        container["name"]: Container(
            command=container.get("command", []) + container.get("args", []),
            env={entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry},
        )
        for container in spec.get("initContainers", []) + spec["containers"]
    }


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Helm tells the terminal about every symlink in a chart, and chart/files has some."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
