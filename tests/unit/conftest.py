"""Fixtures that start real processes, and end them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import fake_nvml
from tests.fake_nvml import FakeNvml
from tests.unit.vram_agent.helpers import AgentProcess, Holder

NewAgent = Callable[..., AgentProcess]


@pytest.fixture
def new_holder() -> Iterator[Callable[[], Holder]]:
    """Starts processes that can hold leases."""
    started: list[Holder] = []

    def new() -> Holder:
        started.append(Holder())
        return started[-1]

    yield new
    for holder in started:
        holder.clean_up()


@pytest.fixture
def holder(new_holder: Callable[[], Holder]) -> Holder:
    return new_holder()


@pytest.fixture
def new_agent(tmp_path: Path) -> Iterator[NewAgent]:
    """Makes agents, one folder for all; keywords go to their environment. The test starts them."""
    made: list[AgentProcess] = []

    def new(**env: str | None) -> AgentProcess:
        made.append(AgentProcess(tmp_path, env))
        return made[-1]

    yield new
    for agent in made:
        if agent.process is not None:
            agent.process.kill()
            agent.process.wait()


@pytest.fixture
def agent(new_agent: NewAgent) -> AgentProcess:
    """A running agent that leases this machine's RAM."""
    return new_agent().start()


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml.build(tmp_path_factory.mktemp("fake_nvml"))


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path) -> FakeNvml:
    """A fake driver, with no GPU yet."""
    return FakeNvml(nvml_library, tmp_path / "gpus")
