"""Alert rules, dashboards and monitors: what they ask for exists, they are what their readers take, and alerts fire."""

import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from ray.serve.schema import ApplicationStatus

from tests.chart import promql, schemas
from tests.chart.envoy import configuration
from tests.chart.helm import CHART, KEYS, Json, find, render
from tests.chart.promql import Labels
from vram_agent.api import Device, Enforcement, Lease, LeaseState, State
from vram_agent.metrics import Metrics

MODEL: Json = {"source": "owner/a", "vram": "1Gi"}
VALUES: Json = {
    "models": {"a": MODEL},
    "gateway": KEYS,
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}, "dashboards": {"enabled": True}},
}
RULES = CHART / "files" / "rules.yaml"
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in (CHART / "files" / "dashboards").glob("*.json")}
# What Prometheus itself says of each pod that a PodMonitor finds.
TARGET = frozenset({"job", "namespace", "pod", "container", "instance"})


def rules() -> list[Json]:
    found: list[Json] = yaml.safe_load(RULES.read_text())
    return found


def sources(package: str, *parts: str) -> str:
    """The text of modules of an installed package."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return "\n".join(path.read_text() for path in sorted(Path(spec.origin).parent.joinpath(*parts).glob("*.py")))


def agent_metrics() -> dict[str, Labels]:
    """From the real Metrics, of an agent with one device and one lease."""
    device = Device(
        id="GPU-a",
        kind="nvml",
        name="GPU",
        enforcement=Enforcement.TORCH,
        total=8,
        reserved=1,
        safety=1,
        headroom=1,
        foreign=0,
        leased=1,
        free=4,
        sampled=0,
    )
    lease = Lease(
        id="1",
        model="a",
        state=LeaseState.ACTIVE,
        bytes=1,
        devices=("GPU-a",),
        pid=1,
        pids=(1,),
        used={"GPU-a": 1},
        charged={"GPU-a": 1},
        place=None,
        since=0,
    )
    state = State(node="n", devices=(device,), leases=(lease,), events=(), overheads={})
    families = text_string_to_metric_families(generate_latest(Metrics("n", lambda: state).registry).decode())
    return {sample.name: TARGET.union(sample.labels) for family in families for sample in family.samples}


def gateway_metrics() -> dict[str, Labels]:
    """What Envoy's access log counts, and a gauge of its own that tests/gateway has seen."""
    listener = yaml.safe_load(configuration(VALUES)["envoy.yaml"])["static_resources"]["listeners"][0]
    logs = listener["filter_chains"][0]["filters"][0]["typed_config"]["access_log"]
    (counted,) = [log["typed_config"] for log in logs if log["name"] == "metrics"]
    found = {"envoy_http_downstream_rq_active": TARGET | {"envoy_http_conn_manager_prefix"}}
    for kind in ("counter", "histogram"):
        for stat in (entry["stat"] for entry in counted[f"{kind}s"]):
            found |= exported(kind, f"envoy_hive_{stat['name']}", TARGET | {tag["name"] for tag in stat["tags"]}, "")
    return found


def ray_metrics() -> dict[str, Labels]:
    """Of Ray Serve, and of vLLM, as Ray exports them. Serve adds the replica's labels where it knows the replica."""
    declared = r'(counter|gauge|histogram)(?:_cls)?\(\s*(?:name=)?"(serve_|vllm:)(\w+)"'
    text = sources("ray", "serve", "_private") + sources("vllm", "v1", "metrics")
    labels = {
        "serve_": TARGET | {"application", "deployment", "replica"},
        "vllm:": TARGET | {"model_name", "engine", "ReplicaId"},
    }
    found: dict[str, Labels] = {}
    for kind, prefix, name in re.findall(declared, text, re.IGNORECASE):
        found |= exported(kind.lower(), f"ray_{prefix.replace(':', '_')}{name}", labels[prefix], "_total")
    return found


def exported(kind: str, name: str, labels: Labels, counter: str) -> dict[str, Labels]:
    """The series of a metric. Ray's counters end in _total, Envoy's do not."""
    if kind == "histogram":
        return {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
    return {name.removesuffix(counter) + counter if kind == "counter" else name: labels}


@pytest.fixture(scope="module", name="metrics")
def _metrics() -> dict[str, Labels]:
    return {"up": TARGET} | agent_metrics() | gateway_metrics() | ray_metrics()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_metric_and_label_of_a_rule_exists(rule: Json, metrics: dict[str, Labels]) -> None:
    found = promql.labels(rule["expr"], metrics)
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= found


def test_every_rule_says_what_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    """rules_test.yaml has the series, and promtool Prometheus' own parser and clock."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: apt-get install --no-install-recommends prometheus")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(find(render(VALUES), "PrometheusRule")["spec"]))
    cases = Path(__file__).with_name("rules_test.yaml").read_text()
    (tmp_path / "rules_test.yaml").write_text(cases)
    assert {rule["alert"] for rule in rules()} == set(re.findall(r'alertname="(\w+)"', cases))
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_know_the_number_that_ray_serve_gives_to_running() -> None:
    assert ApplicationStatus.RUNNING.to_numeric() == 6 == max(status.to_numeric() for status in ApplicationStatus)


@pytest.mark.parametrize(("kind", "plural"), [("PodMonitor", "podmonitors"), ("PrometheusRule", "prometheusrules")])
def test_the_operator_takes_every_monitor_and_rule(kind: str, plural: str, tmp_path: Path) -> None:
    """Kubernetes would drop a key that the CRD does not name, and say nothing."""
    path = f"example/prometheus-operator-crd/monitoring.coreos.com_{plural}.yaml"
    location = schemas.prepare_crd(tmp_path, schemas.module_crd(*schemas.PROMETHEUS_OPERATOR, path))
    objects = {obj["metadata"]["name"]: obj for obj in render(VALUES) if obj["kind"] == kind}
    (tmp_path / "objects").mkdir()
    schemas.kubeconform(objects, schemas.KUBERNETES[-1], location, tmp_path / "objects")


def test_prometheus_finds_rules_and_monitors_by_the_label_that_it_looks_for() -> None:
    rendered = render(VALUES)
    assert find(rendered, "PrometheusRule")["metadata"]["labels"]["release"] == "prometheus"
    monitors = [obj for obj in rendered if obj["kind"] == "PodMonitor"]
    assert [obj["metadata"]["name"] for obj in monitors] == ["hive-agent", "hive-gateway", "hive-ray"]
    assert all(obj["metadata"]["labels"]["release"] == "prometheus" for obj in monitors)
    ports = {obj["metadata"]["name"]: obj["spec"]["podMetricsEndpoints"][0]["port"] for obj in monitors}
    agent = find(rendered, "DaemonSet")["spec"]["template"]["spec"]["containers"]
    gateway = find(rendered, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert ports["hive-agent"] in [port["name"] for one in agent for port in one.get("ports", [])]
    assert ports["hive-gateway"] in [port["name"] for one in gateway for port in one.get("ports", [])]


def test_the_jobs_that_rules_ask_for_keep_their_names_in_every_release() -> None:
    monitors = [obj for obj in render(VALUES | {"fullnameOverride": "llms"}) if obj["kind"] == "PodMonitor"]
    assert [obj["metadata"]["name"] for obj in monitors] == ["llms-agent", "llms-gateway", "llms-ray"]
    jobs = {obj["spec"]["podMetricsEndpoints"][0]["relabelings"][0]["replacement"] for obj in monitors}
    asked = re.findall(r'up\{job="(.+?)"', RULES.read_text())
    assert jobs == set(asked) == {"hive-agent", "hive-gateway", "hive-ray"}


def test_nothing_of_prometheus_or_grafana_is_made_unasked() -> None:
    rendered = render({"models": {"a": MODEL}})
    assert {"PodMonitor", "PrometheusRule"}.isdisjoint(obj["kind"] for obj in rendered)
    assert not any("dashboard" in obj["metadata"]["name"] for obj in rendered)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_metric_and_label_of_a_dashboard_exists(name: str, metrics: dict[str, Labels]) -> None:
    """In its panels, their legends, and the choices of its variables."""
    for panel in DASHBOARDS[name]["panels"]:
        for target in panel["targets"]:
            found = promql.labels(target["expr"].replace("$__rate_interval", "5m"), metrics)
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= found, panel["title"]
    for variable in _variables(name, "query"):
        (choice,) = re.findall(r"label_values\((.+), (\w+)\)", variable["query"])
        assert choice[1] in promql.labels(choice[0], metrics)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_asks_the_data_source_that_is_chosen_and_knows_its_variables(name: str) -> None:
    (source,) = _variables(name, "datasource")
    assert source["query"] == "prometheus"
    asking = [*DASHBOARDS[name]["panels"], *_variables(name, "query")]
    assert {one["datasource"]["uid"] for one in asking} == {f"${{{source['name']}}}"}
    used = set(re.findall(r"\$(?!__)(\w+)", json.dumps(DASHBOARDS[name])))
    assert used == {variable["name"] for variable in _variables(name, "query")}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_of_a_dashboard_have_an_id_and_a_place_of_their_own(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells = [cell for panel in panels for cell in _cells(panel["gridPos"])]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
    for panel in panels:
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_grafanas_sidecar_finds_every_dashboard_as_it_is_also_without_the_prometheus_operator() -> None:
    values = {"models": {"a": MODEL}, "monitoring": {"dashboards": {"enabled": True, "labels": {"team": "research"}}}}
    rendered = [obj for obj in render(values) if "dashboard" in obj["metadata"]["name"]]
    assert [obj["metadata"]["name"] for obj in rendered] == ["hive-dashboard-serving", "hive-dashboard-vram"]
    data = {key: text for obj in rendered for key, text in obj["data"].items()}
    assert {key: json.loads(text) for key, text in data.items()} == {
        f"hive-{key}": DASHBOARDS[key] for key in DASHBOARDS
    }
    assert all(obj["kind"] == "ConfigMap" for obj in rendered)
    assert all(
        obj["metadata"]["labels"].items() >= {"grafana_dashboard": "1", "team": "research"}.items() for obj in rendered
    )
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS) == 2


def _variables(name: str, kind: str) -> list[Json]:
    return [variable for variable in DASHBOARDS[name]["templating"]["list"] if variable["type"] == kind]


def _cells(place: Json) -> list[tuple[int, int]]:
    """The cells of Grafana's grid, 24 wide, that a panel covers."""
    columns = range(place["x"], place["x"] + place["w"])
    return [(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])]
