# SPDX-License-Identifier: Apache-2.0
import pytest

import blockbridge as bb


HOST = "nqn.2026-11.io.blockbridge:host:11111111-2222-4333-8444-555555555555"


def config(folder, extra=""):
    path = folder / "disknode.yaml"
    path.write_text(
        "name: alpha\n"
        "listen: [127.0.0.1:0]\n"
        "control: 127.0.0.1:0\n"
        f"hosts: ['{HOST}']\n"
        f"drives:\n  - {{path: {folder}/drive.img, slot: '0', create: 64MiB}}\n{extra}"
    )
    return path


def test_publishes_a_drive_that_can_be_read_over_the_network(tmp_path):
    with bb.Runtime() as runtime:
        with bb.DiskNode(runtime, config(tmp_path)) as node:
            state = node.state
            assert state["name"] == "alpha" and state["refused"] == []
            drive = state["drives"][0]
            assert drive["state"] == "online" and drive["slot"] == "0"
            uri = f"nvme-tcp://{state['nvme'][0]}/{drive['nqn']}"
            with pytest.raises(bb.PermissionDeniedError):
                runtime.open(uri)
            with runtime.open(f"{uri}?hostnqn={HOST}") as remote:
                assert remote.size == drive["capacity_bytes"]
                remote.write(0, b"d" * 4096)
                remote.flush()
                assert remote.read(0, 4096) == b"d" * 4096
            with pytest.raises(bb.BadStateError, match="still live"):
                runtime.close()


def test_says_where_a_configuration_is_wrong(tmp_path):
    with bb.Runtime() as runtime:
        with pytest.raises(bb.NotFoundError, match="nowhere.yaml"):
            bb.DiskNode(runtime, tmp_path / "nowhere.yaml")
        with pytest.raises(bb.InvalidArgumentError, match=r"disknode.yaml:7: .*colour"):
            bb.DiskNode(runtime, config(tmp_path, "colour: red\n"))
    assert not (tmp_path / "drive.img").exists()
