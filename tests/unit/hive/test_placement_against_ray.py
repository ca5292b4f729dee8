"""Our rule beside Ray Serve's own scheduler, which runs here in this process against made-up nodes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.serve._private import deployment_scheduler as ray_scheduler
from ray.serve._private.common import DeploymentID, ReplicaID

from hive.placement import Replica, Want, Worker, place, staying

WIDTHS = (1, 2)
RESOURCES = {1: "vram_mib", 2: "vram_mib_x2"}
CPUS = "model_cpus"
NAMES = ("a", "b", "c", "d", "e")


class ByName(set):  # type: ignore[type-arg]
    """A set in the order of its elements. Ray goes through sets of resource names, so that the hashes of a run decide
    between replicas and nodes that are equal otherwise."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__()))

    def __or__(self, other: Any) -> "ByName":
        return ByName(super().__or__(other))

    def __sub__(self, other: Any) -> "ByName":
        return ByName(super().__sub__(other))


@pytest.fixture(autouse=True, scope="module")
def packing() -> Iterator[None]:
    """As the chart sets it by RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY and RAY_SERVE_HIGH_PRIORITY_CUSTOM_RESOURCES."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_scheduler, "RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY", True)
        patch.setattr(ray_scheduler.Resources, "CUSTOM_PRIORITY", [*sorted(RESOURCES.values()), CPUS])
        patch.setattr(ray_scheduler, "set", ByName, raising=False)
        patch.setattr(ray_scheduler.logger, "disabled", True)
        yield


def node_id(worker: int | None) -> str:
    """Ray's node ids are hexadecimal and not 0."""
    assert worker is not None
    return f"{worker + 1:056x}"


class Nodes:
    """What Ray knows of its nodes, as ClusterNodeInfoCache tells it."""

    def __init__(self, workers: list[Worker]) -> None:
        self._total = {
            node_id(number): {RESOURCES[worker.devices]: worker.mib, CPUS: worker.cpus, "memory": worker.memory}
            for number, worker in enumerate(workers)
        }

    def get_active_node_ids(self) -> list[str]:
        return list(self._total)

    def get_total_resources_per_node(self) -> dict[str, dict[str, float]]:
        return self._total

    get_available_resources_per_node = get_total_resources_per_node  # the scheduler takes what runs off by itself

    def get_node_labels(self, node: str) -> dict[str, str]:
        return {}


def by_ray(wanted: list[Want], workers: list[Worker], running: list[Replica]) -> list[Replica]:
    """Where Ray's scheduler sends each replica; and those that run, without the ones that it ends."""
    scheduler = ray_scheduler.DeploymentScheduler(Nodes(workers), "head", Mock())
    sent: list[Replica] = []
    upscales, downscales, ids = {}, {}, {}
    for want in wanted:
        deployment = DeploymentID(name="Model", app_name=want.model)
        resources = {RESOURCES[want.devices]: want.mib, CPUS: want.cpus, "memory": want.memory}
        config = SimpleNamespace(
            resource_dict=resources,
            ray_actor_options={},
            max_replicas_per_node=want.most_per_worker,
            placement_group_bundles=None,
            placement_group_strategy=None,
            placement_group_bundle_label_selector=None,
        )
        scheduler.on_deployment_created(deployment, ray_scheduler.SpreadDeploymentSchedulingPolicy())
        scheduler.on_deployment_deployed(deployment, config)
        stay = [replica for replica in running if replica.model == want.model]
        for number, replica in enumerate(stay):
            ids[ReplicaID(f"old{number}", deployment)] = replica
            scheduler.on_replica_running(ReplicaID(f"old{number}", deployment), node_id(replica.worker))
        if len(stay) > want.replicas:
            downscales[deployment] = ray_scheduler.DeploymentDownscaleRequest(deployment, len(stay) - want.replicas)

        def options(model: str = want.model, **said: Any) -> Mock:
            node = getattr(said["scheduling_strategy"], "node_id", None)  # "DEFAULT" where there is none
            sent.append(Replica(model, None if node is None else int(node, 16) - 1))
            return Mock()

        upscales[deployment] = [
            ray_scheduler.ReplicaSchedulingRequest(
                replica_id=ReplicaID(f"new{number}", deployment),
                actor_def=Mock(options=options),
                actor_resources=resources,
                actor_options={},
                actor_init_args=(),
                on_scheduled=Mock(),
                max_replicas_per_node=want.most_per_worker,
            )
            for number in range(want.replicas - len(stay))
        ]
    ended = set().union(*scheduler.schedule(upscales, downscales).values())
    return [*(replica for id_, replica in ids.items() if id_ not in ended), *sent]


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[Want], list[Worker], list[Replica]]:
    """Few sizes, so that much is equal; some replicas run already, where our own rule or chance put them."""
    workers = draw(
        st.lists(
            st.builds(
                Worker,
                mib=st.integers(0, 24),
                devices=st.sampled_from(WIDTHS),
                cpus=st.sampled_from([1.0, 2.0, 4.0]),
                memory=st.sampled_from([4.0, 8.0]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    wanted = [
        Want(
            model=name,
            mib=draw(st.integers(1, 12)),
            devices=draw(st.sampled_from(WIDTHS)),
            replicas=draw(st.integers(0, 4)),
            cpus=draw(st.sampled_from([0.1, 0.5, 1.0])),
            memory=draw(st.sampled_from([0, 1, 3])),
            most_per_worker=draw(st.sampled_from([1, 100])),
        )
        for name in draw(st.permutations(NAMES))[: draw(st.integers(1, len(NAMES)))]
    ]
    before = [replace(want, replicas=draw(st.integers(0, want.replicas))) for want in wanted]
    placed = [replica for replica in place(before, workers) if replica.worker is not None]
    return wanted, workers, [replica for want in wanted for replica in placed if replica.model == want.model]


@settings(max_examples=500)
@given(case=clusters())
def test_every_replica_goes_where_ray_sends_it(case: tuple[list[Want], list[Worker], list[Replica]]) -> None:
    wanted, workers, running = case
    assert place(wanted, workers, running) == by_ray(wanted, workers, running)


@settings(max_examples=500)
@given(case=clusters(), data=st.data())
def test_those_go_on_that_ray_does_not_end(
    case: tuple[list[Want], list[Worker], list[Replica]], data: st.DataObject
) -> None:
    wanted, workers, running = case
    counts = Counter(replica.model for replica in running)
    fewer = [replace(want, replicas=data.draw(st.integers(0, counts[want.model]))) for want in wanted]
    assert Counter(staying(fewer, running)) == Counter(by_ray(fewer, workers, running))


def test_a_worker_that_holds_a_replica_is_taken_before_a_closer_fit() -> None:
    wanted = [Want("a", 10, 1, 1), Want("b", 2, 1, 1)]
    workers = [Worker(2, 1, 8, 8), Worker(24, 1, 8, 8)]
    expected = [Replica("a", 1), Replica("b", 1)]
    assert place(wanted, workers) == by_ray(wanted, workers, []) == expected
