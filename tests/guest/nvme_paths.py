# SPDX-License-Identifier: Apache-2.0
"""One subsystem by two ports: namespaces that come, go and grow; ANA; a path that is cut."""
import json
import select
import socket
import subprocess
import threading
import time

import steps
from image import HOST_ADDRESS

MIB = 1 << 20

# What a healthy kernel says of a path that was cut, and of I/O that goes by another for a while.
CUT = [
    r"no usable path - requeuing I/O",
    r"nvme nvme\d+: (starting error recovery|Reconnecting in|reading non-mdts-limits failed)",
    r"nvme nvme\d+: (failed to connect socket|queue_size|Failed reconnect attempt)",
    r"nvme nvme\d+: failed to send request -\d+",
    r"nvme nvme\d+: failed nvme_keep_alive_end_io error",
    r"block nvme\d+n\d+: no available path",
    r"nvme nvme\d+: Property Set error: 880",  # host path error: to shut down what is not there
]


class Relay:
    """A port in front of a port, which can be cut: connections end, new ones are refused."""

    def __init__(self, to):
        self.to = to
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            self.sockets += [near, far]
            threading.Thread(target=self._pump, args=(near, far), daemon=True).start()

    @staticmethod
    def _pump(near, far):
        try:
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(1 << 18)
                    if not data:
                        raise OSError("the end")
                    (far if ready is near else near).sendall(data)
        except (OSError, ValueError):
            for one in (near, far):
                one.close()

    def cut(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in self.sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Paths:
    """Two paths of one guest to one bb-serve. Each method is a step."""

    def __init__(self, target, host):
        self.target, self.host = target, host
        self.relay = Relay(target.ports[1])
        self.ports = [target.ports[0], self.relay.port]

    def bb(self, *arguments):
        command = [self.target.bb, "--socket", self.target.control, "-o", "json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def connect(self, guest):
        uuid = self.host.rsplit(":", 1)[1]
        guest.run(
            "".join(
                f"nvme connect -t tcp -a {HOST_ADDRESS} -s {port} -n {self.target.nqn} "
                f"--hostnqn={self.host} --hostid={uuid} --keep-alive-tmo=10 "
                "--ctrl-loss-tmo=600 --reconnect-delay=2\n"
                for port in self.ports
            )
        )
        output = guest.run(
            steps.wait_for_disk(self.target.nqn)
            + "echo $d $c\nfor p in /sys/class/nvme/nvme*; do\n"
            + 'echo "path ${p##*/} $(cat $p/address)"; done'
        )
        found = {}
        for line in output.splitlines():
            if line.startswith("path "):
                _, name, address = line.split(maxsplit=2)
                found[int(address.split("trsvcid=")[1].split(",")[0])] = name
        self.controllers = [found[port] for port in self.ports]
        self.head = guest.run("ls /sys/block | grep -o 'nvme[0-9]*n1$' | head -1").strip()
        self.disk = f"/dev/{self.head}"

    def commands(self, guest):
        """ANA and limits in identify and log; Verify and Copy."""
        ctrl = json.loads(guest.run(f"nvme id-ctrl /dev/{self.controllers[0]} -o json"))
        assert ctrl["cmic"] & 0xB == 0xB, f"multi-port, multi-controller, ANA: {ctrl['cmic']:#x}"
        assert ctrl["anacap"] & 0x1F == 0x1F and ctrl["anagrpmax"] == ctrl["nanagrpid"] == 32, ctrl
        assert ctrl["oncs"] & 0x18D == 0x18D, f"ONCS {ctrl['oncs']:#x}"
        assert ctrl["fuses"] & 1 and ctrl["acwu"] > 0, (ctrl["fuses"], ctrl["acwu"])
        assert ctrl["nn"] >= 3, ctrl["nn"]
        ns = json.loads(guest.run(f"nvme id-ns {self.disk} -o json"))
        assert ns["anagrpid"] == 1 and ns["mssrl"] > 0 and ns["mcl"] >= ns["mssrl"], ns
        log = guest.run(f"nvme ana-log /dev/{self.controllers[0]}")
        assert "optimized" in log.lower(), log
        guest.run(
            f"d={self.disk}; head -c 8192 /dev/urandom >/tmp/a\n"
            "nvme write $d -s 0 -c 15 -z 8192 -d /tmp/a\nnvme verify $d -s 0 -c 15\n"
            "nvme copy $d --sdlba=64 --slbs=8,0 --blocks=7,7 --format=0\n"
            "rm -f /tmp/r; nvme read $d -s 64 -c 15 -z 8192 -d /tmp/r\n"
            "dd if=/tmp/a bs=4096 skip=1 2>/dev/null >/tmp/b; head -c 4096 /tmp/a >>/tmp/b\n"
            "cmp /tmp/b /tmp/r"
        )
        for wrong in ("nvme verify $d -s 99999999 -c 0", "nvme write-uncor $d -s 0 -c 0"):
            code, output = guest.call(f"d={self.disk}; {wrong} 2>&1")
            assert code != 0, f"{wrong}: {output}"

    def _wait_size(self, guest, nsid, size_bytes):
        """Until the disk of a namespace has that size; 0: until it is gone. By events alone."""
        disk = self.head[:-1] + str(nsid)
        guest.run(
            f"n=0; while [ $(cat /sys/block/{disk}/size 2>/dev/null || echo 0) != "
            f"{size_bytes // 512} ]; do n=$((n + 1)); [ $n -lt 100 ] || exit 1; sleep 0.1; done"
        )
        return f"/dev/{disk}"

    def namespaces(self, guest):
        self.bb("namespace", "add", "--device", "mem:8M", "--nsid", "3")
        disk = self._wait_size(guest, 3, 8 * MIB)
        guest.run(f"dd if=/dev/zero of={disk} bs=1M count=8 oflag=direct 2>/dev/null")
        self.bb("namespace", "replace", "--device", "mem:24M", "--nsid", "3")
        self._wait_size(guest, 3, 24 * MIB)
        guest.run(f"dd if={disk} of=/dev/null bs=1M count=24 iflag=direct 2>/dev/null")
        self.bb("namespace", "remove", "--nsid", "3")
        self._wait_size(guest, 3, 0)
        rest = [row["nsid"] for row in self.bb("namespace", "list")]
        assert rest == [1, 2], rest
        listed = guest.run(f"nvme list-ns /dev/{self.controllers[0]}")
        assert "0x3" not in listed, listed
        guest.run(f"nvme changed-ns-list-log /dev/{self.controllers[0]}")  # read already: empty

    def _written(self, guest):
        """Sectors written so far by each path."""
        script = "".join(
            f"for s in /sys/class/nvme/{name}/nvme*c*n1; do "
            "set -- $(cat $s/stat); echo $7; done\n"
            for name in self.controllers
        )
        return [int(word) for word in guest.run(script).split()]

    def _wait_ana(self, guest, which, state):
        guest.run(
            f"n=0; until grep -qx {state} /sys/class/nvme/{self.controllers[which]}/nvme*c*n1/"
            "ana_state; do n=$((n + 1)); [ $n -lt 100 ] || exit 1; sleep 0.1; done"
        )

    def ana(self, guest):
        """I/O follows the states, and none of it fails."""
        for down in (0, 1):
            self.bb("ana", "set", "--port", str(down + 1), "inaccessible")
            self._wait_ana(guest, down, "inaccessible")
            before = self._written(guest)
            guest.run(f"dd if=/dev/zero of={self.disk} bs=64k count=32 oflag=direct 2>/dev/null")
            after = self._written(guest)
            assert after[down] == before[down], f"port {down + 1}: {before} -> {after}"
            assert after[1 - down] - before[1 - down] == 4096, f"{before} -> {after}"
            self.bb("ana", "set", "--port", str(down + 1), "optimized")
            self._wait_ana(guest, down, "optimized")

    def cut(self, guest, seconds):
        """fio verifies while a state changes under it, and then one of the paths is cut."""
        guest.start(steps.fio_command(self.disk, 16, seconds), seconds + 90)
        time.sleep(seconds / 3)
        self.bb("ana", "set", "--port", "1", "inaccessible")
        time.sleep(seconds / 6)
        self.bb("ana", "set", "--port", "1", "non-optimized")
        time.sleep(seconds / 6)
        self.relay.cut()
        code, output = guest.finish()
        assert code == 0, f"fio, exit code {code}: {steps.fio_said(output)}"
        job = json.loads(output[output.index("{") :])["jobs"][0]
        assert job["error"] == 0 and job["write"]["total_ios"] > 0, steps.fio_said(output)

    def disconnect(self, guest):
        guest.run(f"nvme disconnect -n {self.target.nqn}", 60)
