"""Of any two values files that differ in one model, the rendered texts differ in that model's application alone."""

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chart.helm import Json, application, texts

GROUPS: Json = {
    "gpu": {"replicas": 3},
    "quad": {"replicas": 1, "gpusPerWorker": 4, "gpuResource": "g/g", "resources": {"requests": {}, "limits": {}}},
}
NAMES = st.from_regex(r"\A[a-z]([-a-z0-9]{0,38}[a-z0-9])?\Z")
SIZES = st.builds("{}{}".format, st.integers(1, 2048), st.sampled_from(["Mi", "Gi"]))
# What YAML can hold: no control character but tab and newline.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], include_characters="\t\n"), min_size=1)
COUNT: Json = {"replicas": st.integers(0, 3)}
SCALED: Json = {"autoscaling": st.fixed_dictionaries({"min": st.integers(1, 2), "max": st.integers(2, 3)})}
OPTIONAL: Json = {
    "maxModelLen": st.none() | st.integers(1, 2**31),
    "maxNumSeqs": st.none() | st.integers(1, 4096),
    "tensorParallel": st.sampled_from([1, 4]),
    "chatTemplate": st.none() | TEXT,
    "cpu": st.floats(0, 64) | st.integers(0, 64),
    "memory": st.none() | SIZES,
    "spread": st.booleans(),
    "maxOngoingRequests": st.integers(1, 10**6),
    "adapters": st.dictionaries(st.from_regex(r"\Ax[A-Za-z0-9._:/-]{9,99}\Z"), st.just("./adapter"), max_size=1),
    "defaults": st.fixed_dictionaries({}, optional={"maxTokens": st.none() | st.integers(1, 10**6)}),
    "engine": st.dictionaries(st.from_regex(r"\Ax_[a-z_]{1,8}\Z"), st.none() | st.integers() | st.booleans() | TEXT),
    "env": st.dictionaries(st.from_regex(r"\AX_[A-Z]{1,8}_\Z"), TEXT),
}
REQUIRED: Json = {"source": st.sampled_from(["owner/model", "./folder", "/data/model"]), "vram": SIZES}
MODELS = st.fixed_dictionaries(REQUIRED, optional=OPTIONAL | COUNT) | st.fixed_dictionaries(
    REQUIRED, optional=OPTIONAL | SCALED
)


def _parts(models: Json) -> tuple[dict[str, str], str, str]:
    """The text of each application, the text around them, and the text of the Ray cluster."""
    text = texts({"models": models, "workerGroups": GROUPS})["templates/rayservice/rayservice.yaml"]
    serve, cluster = text.split("  rayClusterConfig:\n")
    head, *apps = re.split(r"^    - args:\n", serve, flags=re.MULTILINE)
    tail = ""
    if apps:
        last, mark, rest = apps[-1].partition("    http_options:\n")
        apps[-1], tail = last, mark + rest
    return {_name(app): app for app in apps}, head + tail, cluster


def _name(app: str) -> str:
    (name,) = re.findall(r"^      route_prefix: /models/(.*)$", app, flags=re.MULTILINE)
    return str(name)


@settings(max_examples=120)
@given(st.dictionaries(NAMES, MODELS, min_size=1, max_size=4), MODELS, st.data())
def test_an_edit_of_one_model_changes_its_application_and_never_the_ray_cluster(
    models: Json, entry: Json, data: st.DataObject
) -> None:
    """Serve compares applications one by one, and KubeRay makes a new cluster for any byte of rayClusterConfig."""
    edited: str = data.draw(st.sampled_from(sorted(models)))
    before, _, cluster_before = _parts(models)
    after, _, cluster_after = _parts(models | {edited: entry})
    assert cluster_after == cluster_before
    before.pop(edited, None)
    after.pop(edited, None)
    assert after == before


@settings(max_examples=60)
@given(st.dictionaries(NAMES, MODELS, min_size=2, max_size=4))
def test_a_model_that_goes_leaves_the_others_as_they_are(models: Json) -> None:
    """The same holds, read backwards, for one that comes."""
    gone = min(models)
    before, _, cluster_before = _parts(models)
    after, _, cluster_after = _parts({name: entry for name, entry in models.items() if name != gone})
    before.pop(gone, None)
    assert (after, cluster_after) == (before, cluster_before)


@settings(max_examples=200)
@given(TEXT, TEXT)
def test_text_arrives_as_it_was_written(template: str, value: str) -> None:
    """Through Helm's YAML, the block inside the RayService, and the operator's parser."""
    entry: Any = {"source": "owner/a", "vram": "1Gi", "chatTemplate": template, "env": {"X": value}}
    app = application({"models": {"a": entry}}, "a")
    assert app["args"]["chatTemplate"] == template
    assert app["deployments"][0]["ray_actor_options"]["runtime_env"]["env_vars"]["X"] == value
