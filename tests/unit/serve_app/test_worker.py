"""What a Ray worker registers."""

import os
from pathlib import Path

import pytest

from serve_app.lease import AgentClient, LeaseError
from serve_app.settings import Settings, from_environment
from serve_app.worker import capacity, own_devices, resource_name
from vram_agent.api import GIB, MIB, Device, Enforcement, State


def device(name: str, total: int = 24 * GIB, foreign: int = 0) -> Device:
    return Device(
        id=name,
        kind="nvml",
        name="GPU",
        enforcement=Enforcement.TORCH,
        total=total,
        reserved=300 * MIB,
        safety=256 * MIB,
        headroom=512 * MIB,
        foreign=foreign,
        leased=0,
        free=0,
        sampled=0,
    )


def settings(*devices: str) -> Settings:
    return Settings(agent_socket=Path("/nowhere/agent.sock"), models_dir=Path("/models"), devices=devices)


STATE = State(node="n", devices=(device("GPU-a"), device("GPU-b", 12 * GIB)), leases=(), events=(), overheads={})


def test_one_device_registers_what_leases_can_have_in_all() -> None:
    assert capacity([device("GPU-a")], 4)["vram_mib"] == 24 * 1024 - 300 - 256 - 512
    assert capacity([device("GPU-a", foreign=2 * GIB)], 4)["vram_mib"] == 24 * 1024 - 300 - 256 - 2048


def test_of_several_devices_the_smallest_counts_under_a_name_of_its_own() -> None:
    assert capacity(list(STATE.devices), 8) == {"vram_mib_x2": 12 * 1024 - 300 - 256 - 512, "model_cpus": 8}
    assert resource_name(1) == "vram_mib"


def test_a_full_device_registers_nothing_rather_than_less() -> None:
    assert capacity([device("GPU-a", foreign=40 * GIB)], 4)["vram_mib"] == 0


def test_cpus_are_those_of_the_pod_or_all_that_the_machine_has() -> None:
    assert capacity([device("GPU-a")], 4)["model_cpus"] == 4
    assert capacity([device("GPU-a")], None)["model_cpus"] == os.cpu_count()


def test_devices_given_win_over_visible_ones_and_those_over_all() -> None:
    assert [d.id for d in own_devices(settings("GPU-b"), STATE, ["GPU-a"])] == ["GPU-b"]
    assert [d.id for d in own_devices(settings(), STATE, ["GPU-a"])] == ["GPU-a"]
    assert [d.id for d in own_devices(settings(), STATE, [])] == ["GPU-a", "GPU-b"]


def test_a_device_that_the_agent_does_not_know_is_named() -> None:
    with pytest.raises(LeaseError, match="GPU-x"):
        own_devices(settings("GPU-x"), STATE, [])


async def test_without_an_agent_the_message_says_where_it_was_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.lease.CONNECT_RETRIES", 0)
    async with AgentClient(tmp_path / "agent.sock") as agent:
        with pytest.raises(LeaseError, match=f"no VRAM agent answers at {tmp_path}.*FIX"):
            await agent.state()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIVE_AGENT_SOCKET", "/run/hive/agent.sock")
    monkeypatch.setenv("HIVE_MODELS_DIR", "/models")
    monkeypatch.setenv("HIVE_DEVICES", "GPU-a,GPU-b")
    assert from_environment().devices == ("GPU-a", "GPU-b")
    monkeypatch.delenv("HIVE_MODELS_DIR")
    with pytest.raises(RuntimeError, match="HIVE_MODELS_DIR"):
        from_environment()
