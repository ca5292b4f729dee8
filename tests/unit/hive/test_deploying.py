"""Which edits of the values a deploy, a scale or a shutdown comes to."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from hive import deploying, values_file
from hive.commands.deploy import parsed
from hive.errors import HiveError
from hive.local.run import Run, folders
from hive.local.target import LocalHive
from hive.target import Edit, Json, Report, Watch
from tests.unit.hive.planned import make_model
from vram_agent.api import State

VALUES: Json = {
    "models": {
        "chat": {"source": "./m", "vram": "4Gi", "replicas": 2, "engine": {"seed": 1}},
        "search": {"source": "./m", "vram": "4Gi", "autoscaling": {"min": 1, "max": 3}},
        "off": {"source": "./m", "vram": "4Gi", "replicas": 0},
    },
    "gateway": {"anonymous": True},
}


class Changed(LocalHive):
    """The Hive of this machine, whose values change and nothing else."""

    def values(self) -> Json:
        return self.now  # type: ignore[attr-defined,no-any-return]

    def states(self) -> dict[str, State]:
        return {}

    def change(self, edits: Sequence[Edit], report: Report, watch: Watch) -> None:
        self.told.extend(map(str, edits))  # type: ignore[attr-defined]
        object.__setattr__(self, "now", values_file.edited(self.values(), edits))


@pytest.fixture(name="hive")
def _hive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Changed:
    make_model(tmp_path / "models" / "m")
    monkeypatch.setenv("HIVE_STATE_DIR", str(tmp_path))
    hive = Changed(Run("", "", "", "", "", ""), folders())
    object.__setattr__(hive, "now", VALUES)
    object.__setattr__(hive, "told", [])
    return hive


def told(hive: Changed) -> list[str]:
    return hive.told  # type: ignore[attr-defined,no-any-return]


def quiet(*_: object) -> None:
    return None


def test_a_new_model_is_one_entry(hive: Changed) -> None:
    entry = {"source": "./m", "vram": "5Gi", "engine": {"seed": 2}}
    deploying.deploy(hive, "new", entry, quiet, quiet)
    assert hive.values()["models"]["new"] == entry
    assert hive.values()["models"]["chat"] == VALUES["models"]["chat"]


def test_a_model_that_is_there_keeps_what_is_not_said(hive: Changed) -> None:
    deploying.deploy(hive, "chat", {"source": "./n", "engine": {"dtype": "half"}}, quiet, quiet)
    assert told(hive) == ["models.chat.source: ./n", "models.chat.engine.dtype: half"]
    assert hive.values()["models"]["chat"] == {
        "source": "./n", "vram": "4Gi", "replicas": 2, "engine": {"seed": 1, "dtype": "half"},
    }  # fmt: skip


def test_a_model_that_was_shut_down_comes_back(hive: Changed) -> None:
    deploying.deploy(hive, "off", {"source": "./m"}, quiet, quiet)
    assert hive.values()["models"]["off"]["replicas"] == 1


def test_a_budget_that_nobody_says_is_reckoned_from_the_checkpoint(hive: Changed) -> None:
    said: list[str] = []
    deploying.deploy(hive, "new", {"source": "./m", "maxModelLen": 1024}, said.append, quiet)
    vram = hive.values()["models"]["new"]["vram"]
    assert vram.endswith("Mi")
    assert said == [f"new: vram {vram}, reckoned from ./m"]


def test_a_checkpoint_that_is_not_there_is_said_and_nothing_changes(hive: Changed) -> None:
    with pytest.raises(HiveError, match=r"models.new: .*nowhere"):
        deploying.deploy(hive, "new", {"source": "./nowhere"}, quiet, quiet)
    assert told(hive) == []


def test_scale_changes_one_key_and_leaves_an_autoscaler_its_choice(hive: Changed) -> None:
    deploying.scale(hive, "chat", 3, quiet, quiet)
    assert told(hive) == ["models.chat.replicas: 3"]
    with pytest.raises(HiveError, match=r"models.search.autoscaling") as refused:
        deploying.scale(hive, "search", 3, quiet, quiet)
    assert "models.search.autoscaling.min and max" in refused.value.fix
    with pytest.raises(HiveError, match="no model 'nobody'"):
        deploying.scale(hive, "nobody", 1, quiet, quiet)
    assert told(hive) == ["models.chat.replicas: 3"]


def test_shutdown_keeps_entries_that_the_chart_takes(hive: Changed) -> None:
    said: list[str] = []
    deploying.shutdown(hive, ["chat", "search"], said.append, quiet)
    assert {name: entry["replicas"] for name, entry in hive.values()["models"].items()} == dict.fromkeys(
        ["chat", "search", "off"], 0
    )
    assert "search: its autoscaling goes" in said[0]
    assert hive.render(hive.values()).serve_config["applications"] == []


def test_what_is_set_is_read_as_json_where_it_is_that_and_else_as_text() -> None:
    sets = ["cpu=0.1", "engine.kv_cache_dtype=fp8", "engine.enforce_eager=true", 'aliases=["x"]', "engine.seed=1"]
    assert parsed(sets) == {
        "cpu": 0.1, "engine": {"kv_cache_dtype": "fp8", "enforce_eager": True, "seed": 1}, "aliases": ["x"],
    }  # fmt: skip
    with pytest.raises(HiveError, match="--set nonsense: "):
        parsed(["cpu=1", "nonsense"])
