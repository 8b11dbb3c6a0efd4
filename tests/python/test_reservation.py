# SPDX-License-Identifier: Apache-2.0
import pytest

import blockbridge as bb

FIRST = "11111111-1111-4111-8111-111111111111"
SECOND = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def hosts(runtime):
    """Two hosts of one exported device."""
    with runtime.open("mem:16M") as device, device.export("nvme-tcp", "127.0.0.1:0") as exported:
        with runtime.open(f"{exported.uri}?hostid={FIRST}") as first:
            with runtime.open(f"{exported.uri}?hostid={SECOND}") as second:
                yield first, second


def test_one_host_writes(hosts):
    first, second = hosts
    first.reserve("register", other_key=11)
    second.reserve("register", other_key=22)
    first.reserve("acquire", key=11, type="write-exclusive")
    first.write(0, b"1" * 4096)
    with pytest.raises(bb.FencedError):
        second.write(0, b"2" * 4096)
    report = second.reservation
    assert report["type"] == "write-exclusive"
    assert report["hosts"] == [
        {"host": FIRST, "key": 11, "holds": True},
        {"host": SECOND, "key": 22, "holds": False},
    ]

    second.reserve("preempt-and-abort", key=22, other_key=11, type="exclusive-access")
    with pytest.raises(bb.FencedError):
        first.read(0, 4096)
    assert second.read(0, 4096) == b"1" * 4096
    assert [host["host"] for host in second.reservation["hosts"]] == [SECOND]
    second.reserve("release", key=22, type="exclusive-access")
    assert second.reservation["type"] == "none"
    second.reserve("clear", key=22)
    assert second.reservation["hosts"] == []


@pytest.mark.parametrize(
    "type",
    ["write-exclusive", "exclusive-access", "write-exclusive-registrants",
     "exclusive-access-registrants", "write-exclusive-all", "exclusive-access-all"],
)  # fmt: skip
def test_is_called_what_was_asked_for(hosts, type):
    hosts[0].reserve("register", other_key=1)
    hosts[0].reserve("acquire", key=1, type=type)
    assert hosts[1].reservation["type"] == type


def test_keys_replaced_and_given_up(hosts):
    first, _ = hosts
    first.reserve("register", other_key=1)
    first.reserve("replace", key=1, other_key=2)
    with pytest.raises(bb.FencedError):
        first.reserve("unregister", key=1)
    first.reserve("unregister", ignore_key=True)
    assert first.reservation["hosts"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"action": "acquire", "key": 1},
        {"action": "register", "other_key": 1, "type": "write-exclusive"},
        {"action": "clear", "key": 1, "persist": True},
    ],
)
def test_refuses_what_does_not_fit(hosts, arguments):
    with pytest.raises(bb.InvalidArgumentError):
        hosts[0].reserve(**arguments)


def test_refuses_what_it_does_not_know(hosts):
    with pytest.raises(ValueError, match="steal"):
        hosts[0].reserve("steal")


def test_of_what_cannot_be_reserved(runtime):
    with runtime.open("mem:1M") as device:
        with pytest.raises(bb.NotSupportedError, match="only nvme-tcp"):
            device.reserve("register", other_key=1)
        with pytest.raises(bb.NotSupportedError, match="only nvme-tcp"):
            device.reservation  # noqa: B018
