"""What `RayHive` asks of its Hive, and that a deployment that does not come about leaves the values as they were.

The Hive is a fake, so that it fails and is interrupted when the test wants; tests/local/test_client.py has a real one.
"""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hive import HiveError, RayHive, values_file
from hive.client import ray_hive
from hive.rendering import Rendered, render_values
from hive.serve_api import Application
from hive.target import Edit, Report, Watch
from tests.unit.hive.openai_server import OpenAIServer
from tests.unit.hive.planned import make_model
from vram_agent.api import GIB, MIB, Device, Enforcement, State

GPU = Device(
    id="GPU-1", kind="nvml", name="NVIDIA L4", enforcement=Enforcement.TORCH, total=24 * GIB, reserved=0, safety=0,
    headroom=0, foreign=0, leased=0, free=24 * GIB, sampled=0,
)  # fmt: skip
STATES = {"node-1": State(node="node-1", devices=(GPU,), leases=(), events=(), overheads={})}
OTHER = {"source": "./m", "vram": "4Gi"}


class FakeHive:
    """Takes every edit, unless the test says what to raise at the next one after it."""

    name = "this machine"

    def __init__(self, server: OpenAIServer) -> None:
        self.server = server
        self.written: dict[str, Any] = {"models": {"other": OTHER}, "gateway": {"anonymous": True}}
        self.edits: list[Edit] = []
        self.refuses: BaseException | None = None  # before anything is changed
        self.fails: BaseException | None = None  # afterwards

    def gateway_url(self) -> str:
        return self.server.url.removesuffix("/v1")

    def api_key(self) -> str | None:
        return "sk-of-the-target"

    def states(self) -> dict[str, State]:
        return STATES

    def values(self) -> dict[str, Any]:
        return copy.deepcopy(self.written)

    def render(self, values: dict[str, Any]) -> Rendered:
        return render_values(values)

    def worker_cpus(self) -> int | None:
        return None

    def change(self, edits: Sequence[Edit], report: Report, watch: Watch) -> None:
        if self.refuses:
            raise self.refuses
        self.edits += edits
        self.written = values_file.edited(self.written, edits)
        report("it is written")
        watch([Application(name="m", status="DEPLOYING", reason="", wanted=1, replicas=[])], STATES)
        failure, self.fails = self.fails, None
        if failure:
            raise failure


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHive]:
    make_model(tmp_path / "models" / "m")
    monkeypatch.setenv("HIVE_STATE_DIR", str(tmp_path))
    server = OpenAIServer()
    fake = FakeHive(server)
    monkeypatch.setattr(ray_hive, "connect", lambda *_: fake)
    yield fake
    server.close()


def test_a_deployment_is_an_entry_of_the_values_with_a_budget(fake: FakeHive) -> None:
    done = RayHive().deploy_model(
        "chat", "./m", replicas=2, max_num_seqs=4, max_model_len=1024, max_tokens=64, enforce_eager=True
    )
    entry = fake.written["models"]["chat"]
    vram = entry.pop("vram")
    assert entry == {
        "source": "./m",
        "replicas": 2,
        "maxNumSeqs": 4,
        "maxModelLen": 1024,
        "defaults": {"maxTokens": 64},
        "engine": {"enforce_eager": True},
    }
    assert (done.model, done.replicas, done.answer) == ("chat", 2, None)
    assert done.base_url == fake.server.url
    assert f"{done.vram // MIB}Mi" == vram
    assert fake.written["models"]["other"] == OTHER


def test_the_budget_grows_by_what_weights_and_requests_take(fake: FakeHive) -> None:
    """The KV cache of this model: 16 layers x 2 x 8 heads x 64 x 2 bytes a token."""
    hive = RayHive()

    def budget(**more: Any) -> int:
        return hive.deploy_model("chat", "./m", max_model_len=4096, **more).vram

    usual = budget(max_num_seqs=8)
    token = 16 * 2 * 8 * 64 * 2
    assert budget(max_num_seqs=16) - usual == pytest.approx(8 * 4096 * token, abs=8 * MIB)
    assert budget(max_num_seqs=8, vram_weights_gb=3) - usual == pytest.approx(3 * GIB, abs=MIB)


def test_what_vllm_calls_otherwise_goes_to_its_key(fake: FakeHive) -> None:
    fake.written["workerGroups"] = {"gpu": {"gpusPerWorker": 2}}
    del fake.written["models"]["other"]
    RayHive().deploy_model("chat", "./m", tensor_parallel_size=2)
    entry = fake.written["models"]["chat"]
    assert entry["tensorParallel"] == 2
    assert "engine" not in entry


def test_in_test_mode_it_answers_once_and_is_gone(fake: FakeHive, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fake.values()
    monkeypatch.setattr(ray_hive, "QUESTION", "say I serve")
    done = RayHive().deploy_model("chat", "./m", test_mode=True)
    assert done.answer == "I serve"
    assert fake.values() == before
    assert len(fake.edits) == 2
    assert fake.server.headers[-1]["Authorization"] == "Bearer sk-of-the-target"


@pytest.mark.parametrize("test_mode", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("failure", [HiveError("chat: no such layer", "none"), KeyboardInterrupt()], ids=repr)
def test_what_does_not_come_about_leaves_the_values_as_they_were(
    fake: FakeHive, failure: BaseException, replaced: bool, test_mode: bool
) -> None:
    if replaced:
        fake.written["models"]["chat"] = {"source": "./m", "vram": "3Gi", "aliases": ["gpt-4o"]}
    before = fake.values()
    fake.fails = failure
    with pytest.raises(type(failure)) as raised:
        RayHive().deploy_model("chat", "./m", test_mode=test_mode)
    assert raised.value is failure
    assert fake.values() == before


def test_a_failed_answer_in_test_mode_leaves_the_values_as_they_were(
    fake: FakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fake.values()
    monkeypatch.setattr(ray_hive, "QUESTION", "refused 9 400")
    with pytest.raises(HiveError, match="not now"):
        RayHive().deploy_model("chat", "./m", test_mode=True)
    assert fake.values() == before


def test_what_was_refused_is_not_taken_back(fake: FakeHive) -> None:
    fake.refuses = HiveError("no room", "add a GPU")
    with pytest.raises(HiveError, match="no room"):
        RayHive().deploy_model("chat", "./m")
    assert not fake.edits


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"model_id": "Not A Label"}, "Not A Label"),
        ({"model_name": "./nothing"}, "nothing"),
        ({"gpu_memory_utilization": 0.9}, "gpu_memory_utilization is Hive's to set"),
    ],
    ids=str,
)
def test_mistakes_are_named_before_anything_is_changed(fake: FakeHive, said: dict[str, Any], message: str) -> None:
    with pytest.raises(HiveError, match=message):
        RayHive().deploy_model(**{"model_id": "chat", "model_name": "./m"} | said)
    assert not fake.edits


def test_shutdown_takes_one_model_or_all(fake: FakeHive) -> None:
    hive = RayHive()
    hive.deploy_model("chat", "./m")
    hive.shutdown("chat")
    assert {name: entry.get("replicas", 1) for name, entry in fake.written["models"].items()} == {"other": 1, "chat": 0}
    with pytest.raises(HiveError, match=r"no model 'nobody'\nFIX: .*: other, chat"):
        hive.shutdown("nobody")
    hive.deploy_model("chat", "./m")
    assert fake.written["models"]["chat"]["replicas"] == 1
    hive.shutdown()
    assert {entry["replicas"] for entry in fake.written["models"].values()} == {0}


def test_it_asks_the_models_of_its_own_hive(fake: FakeHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one of the environment; unless a call names another."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    hive = RayHive()
    assert hive.inference("say it") == "it"
    assert hive.inference_batch(["say it"]) == ["it"]
    assert {headers["Authorization"] for headers in fake.server.headers} == {"Bearer sk-of-the-target"}
    assert hive.inference("say it", base_url=fake.server.url, api_key="sk-given") == "it"
    assert fake.server.headers[-1]["Authorization"] == "Bearer sk-given"


def test_vram_is_told_by_node_and_drawn(fake: FakeHive, capsys: pytest.CaptureFixture[str]) -> None:
    hive = RayHive()
    assert hive.get_vram_state() == STATES
    hive.display_vram_state()
    shown = capsys.readouterr().out
    assert "GPU-1" in shown
    assert "24.00 GiB" in shown
