"""Replicas on devices, before anything is started."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hive.placement import Replica, Standing, Want, Worker, too_many_cpus, without_room
from vram_agent.api import GIB, MIB


def unplaceable(wanted: list[Want], workers: list[list[int]]) -> str | None:
    return without_room(wanted, Standing([Worker.of(devices) for devices in workers]))


def test_models_pack_on_one_device_up_to_the_last_mib() -> None:
    wanted = [Want("a", 3072, 1, 1), Want("b", 1024, 1, 5)]
    assert unplaceable(wanted, [[8 * GIB]]) is None
    assert unplaceable(wanted, [[8 * GIB - 1]]) is not None


def test_a_replica_is_never_split_over_devices() -> None:
    assert unplaceable([Want("a", 6 * 1024, 1, 1)], [[4 * GIB], [4 * GIB]]) is not None


def test_tensor_parallel_takes_workers_of_its_own_width() -> None:
    wide = [Want("wide", 4096, 2, 1)]
    assert unplaceable(wide, [[4 * GIB, 8 * GIB]]) is None
    assert unplaceable(wide, [[8 * GIB], [8 * GIB]]) is not None
    assert unplaceable(wide, [[3 * GIB, 8 * GIB]]) is not None, "the smallest of the devices counts"


def test_the_refusal_says_who_asks_and_what_is_there() -> None:
    text = unplaceable([Want("big", 9 * 1024, 1, 1), Want("small", 1024, 1, 2)], [[8 * GIB]])
    assert text is not None
    for words in ("replica 1 of big (9.00 GiB)", "11.00 GiB", "small 2 x 1.00 GiB", "the devices have 8.00 GiB"):
        assert words in text


def test_what_runs_keeps_its_place_and_the_refusal_says_what_would_make_room() -> None:
    """Two GPUs of 10 GiB with 6 GiB free on each: 8 GiB would fit only if the small ones stood together."""
    wanted = [Want("small", 4096, 1, 2), Want("large", 8192, 1, 1)]
    workers = [Worker(10240, 1)] * 2
    apart = Standing(workers, [Replica("small", 0), Replica("small", 1)])
    assert without_room(wanted, Standing(workers)) is None
    text = without_room(wanted, apart)
    assert text is not None
    assert text.startswith("replica 1 of large (8.00 GiB) has no room beside the replicas that run")
    fewer = [replace(wanted[0], replicas=1), wanted[1]]
    assert without_room(fewer, apart) is None, "Ray ends one of the small ones"
    assert without_room([*fewer, Want("huge", 20480, 1, 1)], apart) == without_room(
        [*fewer, Want("huge", 20480, 1, 1)], Standing(workers)
    ), "what never fits is told with the figures"


def test_where_vram_would_do_the_cpus_are_named() -> None:
    text = without_room([Want("a", 1024, 1, 3, cpus=1)], Standing([Worker(8192, 1, cpus=2)]))
    assert text == "replica 3 of a has no room: no worker with enough VRAM has 1 CPUs and 0 B of host RAM left"


def test_more_cpus_than_ray_has_are_told_with_who_asks() -> None:
    wanted = [Want("a", 1, 1, 2, cpus=0.5), Want("b", 1, 1, 1, cpus=1)]
    assert too_many_cpus(wanted, 2) is None
    assert too_many_cpus(wanted, 1.5) == "the models ask for 2 CPUs (a 2 x 0.5, b 1 x 1), and Ray has 1.5"


@given(
    sizes=st.lists(st.integers(1, 64), max_size=12),
    devices=st.lists(st.integers(0, 128), min_size=1, max_size=4),
)
def test_what_is_said_to_fit_fits_and_more_than_there_is_never_does(sizes: list[int], devices: list[int]) -> None:
    wanted = [Want(f"m{i}", size, 1, 1) for i, size in enumerate(sizes)]
    workers = [[size * MIB] for size in devices]
    fits = unplaceable(wanted, workers) is None
    if fits:
        assert sum(sizes) <= sum(devices)
        assert max(sizes, default=0) <= max(devices)
    if len(devices) == 1:
        assert fits == (sum(sizes) <= devices[0])
