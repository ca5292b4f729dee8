"""Alert rules and monitors: every metric that a rule asks for exists, and every pod that has some is read."""

import re
from importlib.util import find_spec
from pathlib import Path

import yaml
from prometheus_client import generate_latest

from tests.chart.helm import CHART, KEYS, Json, find, render, texts
from vram_agent.api import State
from vram_agent.metrics import Metrics

MODEL: Json = {"source": "owner/a", "vram": "1Gi"}
VALUES: Json = {
    "models": {"a": MODEL},
    "gateway": KEYS,
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
}


def metrics() -> set[str]:
    """Names that the agent has, that Envoy's access log counts, and those of Ray Serve that rules use."""
    empty = State(node="n", devices=[], leases=[], events=[], overheads={})
    agent = generate_latest(Metrics("n", lambda: empty).registry).decode()
    envoy = texts(VALUES)["templates/gateway/configmap.yaml"]
    counted = re.findall(r'- stat: \{"name":"(\w+)"', envoy)
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    serve = Path(spec.origin).parent / "serve" / "_private" / "application_state.py"
    return {
        *re.findall(r"^# HELP (\w+)", agent, re.MULTILINE),
        *(f"envoy_hive_{name}" for name in counted),
        *(f"ray_{name}" for name in re.findall(r'"(serve_\w+)"', serve.read_text())),
    }


def test_every_metric_of_the_rules_exists() -> None:
    rules = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    known = metrics()
    for rule in rules:
        asked = set(re.findall(r"\b(?:hive|envoy|ray)_\w+", rule["expr"]))
        assert asked, rule["alert"]
        assert asked <= known, rule["alert"]


def test_every_rule_says_what_and_what_to_do() -> None:
    rules = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


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


def test_nothing_of_prometheus_is_made_unasked() -> None:
    assert {"PodMonitor", "PrometheusRule"}.isdisjoint(obj["kind"] for obj in render({"models": {"a": MODEL}}))
