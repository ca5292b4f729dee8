"""What crosses the wire: strictness, and sizes for people."""

import pytest
from pydantic import ValidationError

from vram_agent.api import GIB, MIB, Device, Enforcement, LeaseRequest, human

REQUEST = {"request_id": "r1", "model": "m", "bytes": 1, "devices": ["gpu0"]}


def test_a_request_survives_the_wire() -> None:
    request = LeaseRequest.model_validate(REQUEST)
    assert LeaseRequest.model_validate_json(request.model_dump_json()) == request


def test_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="byts"):
        LeaseRequest.model_validate(REQUEST | {"byts": 1})


@pytest.mark.parametrize(
    "wrong", [{"bytes": 0}, {"bytes": -1}, {"devices": []}, {"request_id": ""}, {"model": ""}, {"bytes": "1 GiB"}]
)
def test_a_request_for_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        LeaseRequest.model_validate(REQUEST | wrong)


def test_a_request_can_not_be_changed() -> None:
    request = LeaseRequest.model_validate(REQUEST)
    with pytest.raises(ValidationError, match="frozen"):
        request.bytes = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (MIB - 1, "1048575 B"),
        (MIB, "1 MiB"),
        (512 * MIB, "512 MiB"),
        (24 * GIB, "24.00 GiB"),
        (22 * GIB + 300 * MIB, "22.29 GiB"),
        (-3 * GIB, "-3.00 GiB"),
        (-5, "-5 B"),
    ],
)
def test_human(size: int, text: str) -> None:
    assert human(size) == text


@pytest.mark.parametrize(("foreign", "allocatable"), [(5, 80), (10, 80), (25, 65)])
def test_allocatable_is_what_stays_when_nothing_is_leased(foreign: int, allocatable: int) -> None:
    device = Device(
        id="gpu0",
        kind="nvml",
        name="GPU",
        enforcement=Enforcement.TORCH,
        total=100,
        reserved=4,
        safety=6,
        headroom=10,
        foreign=foreign,
        leased=50,
        free=0,
        sampled=0.0,
    )
    assert device.allocatable == allocatable
