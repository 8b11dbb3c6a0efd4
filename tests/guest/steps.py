# SPDX-License-Identifier: Apache-2.0
"""What a stock Linux host does with one of our disks; each step raises on a fault."""
import json

from image import HOST_ADDRESS

FILES_SCRIPT = """
mkdir -p /tmp/files
for n in 1 2 3 4 5 6 7 8; do head -c $((n * 250007)) /dev/urandom >/tmp/files/$n; done
"""

# Writes files until there is /run/stop; keeps the sum of a file once that and its name are on the
# disk, and of the newest 400 files only. /run/written is how many there were.
_WRITER = """
mkdir -p /run/sums
i=0
while [ ! -e /run/stop ]; do
  head -c $((4096 * (1 + i % 9))) /dev/urandom >/run/new
  mkdir -p /mnt/$((i % 8))
  if dd if=/run/new of=/mnt/$((i % 8))/$i conv=fsync 2>/run/dd.log && sync -f /mnt; then
    sha256sum </run/new >/run/sums/$i
  else
    cat /run/dd.log >/run/failed
    break
  fi
  if [ $i -ge 400 ]; then
    old=$((i - 400)); rm /run/sums/$old /mnt/$((old % 8))/$old
  fi
  i=$((i + 1)); echo $i >/run/written
done
echo >/run/writer.ended
"""
START_WRITER = f"""
rm -rf /run/stop /run/failed /run/sums /run/writer.ended; echo 0 >/run/written
cat >/run/writer.sh <<'END'
{_WRITER}
END
sh /run/writer.sh >/dev/null 2>&1 </dev/null &
"""
WAIT_FOR_WRITER = """
before=$(cat /run/written); n=0
until [ $(cat /run/written) -ge $((before + 3)) ]; do
  n=$((n + 1)); [ $n -lt 600 ] || { cat /run/failed; exit 1; }
  sleep 0.05
done
"""
END_WRITER = """
echo >/run/stop; n=0
until [ -e /run/writer.ended ]; do n=$((n + 1)); [ $n -lt 600 ]; sleep 0.1; done
[ ! -e /run/failed ] || { cat /run/failed; exit 1; }
"""
CHECK_WRITTEN = """
echo 3 >/proc/sys/vm/drop_caches
cd /run/sums
for i in *; do
  sha256sum </mnt/$((i % 8))/$i | cmp - $i || { echo "file $i is not what was written"; exit 1; }
done
ls | wc -l
"""

# nvme-tcp of these kernels may send from the task that does I/O, and without MSG_NOSIGNAL: where a
# connection is being shut down, the kernel kills the innocent task by SIGPIPE ("failed to send
# request -32"). What does I/O while connections end ignores the signal.
IGNORE_SIGPIPE = "trap '' PIPE\n"


def connect_command(export, host, digests=True, options=""):
    uuid = host.rsplit(":", 1)[1]
    digest = "--hdr-digest --data-digest" if digests else ""
    return (
        f"nvme connect -t tcp -a {HOST_ADDRESS} -s {export.port} -n {export.nqn} "
        f"--hostnqn={host} --hostid={uuid} --keep-alive-tmo=30 {digest} {options}\n"
    )


def wait_for_disk(nqn):
    """Sets $d to /dev/nvmeXnY and $c to /dev/nvmeX of the connected subsystem."""
    return f"""
d=; n=0
while [ -z "$d" ]; do
  for s in /sys/class/nvme-subsystem/*; do
    [ "$(cat $s/subsysnqn)" = "{nqn}" ] || continue
    for e in $s/nvme*; do case ${{e##*/}} in
      nvme*c*n*) ;; nvme*n*) [ -b /dev/${{e##*/}} ] && d=/dev/${{e##*/}} ;; *) c=/dev/${{e##*/}} ;;
    esac; done
  done
  n=$((n + 1)); [ $n -lt 100 ] || {{ echo "no disk of {nqn} after 10 s"; exit 1; }}
  [ -n "$d" ] || sleep 0.1
done
"""


def discover(guest, target, host):
    export = target.exports[0]
    output = guest.run(
        f"nvme discover -t tcp -a {HOST_ADDRESS} -s {export.port} --hostnqn={host} "
        f"--hostid={host.rsplit(':', 1)[1]} -o json"
    )
    found = {record["subnqn"]: record for record in json.loads(output)["records"]}
    for wanted in target.exports:
        assert wanted.nqn in found, f"discovery does not list {wanted.nqn}: {output}"
        record = found[wanted.nqn]
        assert record["trtype"] == "tcp", record
        assert "nvme" in record["subtype"], record


def hidden_from_strangers(guest, target, host):
    export = target.exports[0]
    code, output = guest.call(
        f"nvme discover -t tcp -a {HOST_ADDRESS} -s {export.port} --hostnqn={host} "
        f"--hostid={host.rsplit(':', 1)[1]} -o json"
    )
    assert export.nqn not in output, f"a stranger discovers {export.nqn}: {output}"
    code, output = guest.call(connect_command(export, host))
    assert code != 0, f"a stranger may connect to {export.nqn}: {output}"


def connect(guest, export, host, digests=True, options=""):
    """Connects and checks what the kernel saw; returns (disk, controller)."""
    output = guest.run(
        connect_command(export, host, digests, options)
        + wait_for_disk(export.nqn)
        + "echo $d $c $(blockdev --getsize64 $d)"
    )
    disk, controller, size = output.split()[-3:]
    assert int(size) == export.size_bytes, f"{disk} has {size} bytes, not {export.size_bytes}"
    return disk, controller


def disconnect(guest, export):
    output = guest.run(
        f"nvme disconnect -n {export.nqn}\nls /dev/nvme*n1 2>/dev/null || true", 60
    )
    assert "disconnected 0" not in output, output


def make_filesystem(guest, disk):
    guest.run(f"mkfs.ext4 -q -F {disk}\nmkdir -p /mnt\nmount -t ext4 {disk} /mnt", 120)


def write_and_verify(guest, disk):
    """Files written, caches dropped, checksums compared, the filesystem checked."""
    guest.run(
        FILES_SCRIPT + "cd /tmp/files; sha256sum * >/tmp/sums\n"
        "cp * /mnt/; sync; echo 3 >/proc/sys/vm/drop_caches\n"
        "cd /mnt; sha256sum -c /tmp/sums >/tmp/result || { cat /tmp/result; exit 1; }\n"
        f"cd /; umount /mnt; e2fsck -fn {disk}",
        180,
    )


def read_again(guest, disk):
    """After a new connection the files must still be there."""
    guest.run(
        f"mount -t ext4 {disk} /mnt; cd /mnt; sha256sum -c /tmp/sums >/tmp/result || "
        f"{{ cat /tmp/result; exit 1; }}; cd /; umount /mnt; e2fsck -fn {disk}; rm -r /tmp/files",
        180,
    )


def reset_under_load(guest, disk, controller, resets=2):
    """`nvme reset` while data is written, again and again; every write must succeed."""
    guest.run(
        IGNORE_SIGPIPE
        + f"""
dd if=/dev/urandom of=/tmp/load bs=1M count=12 2>/dev/null
rm -f /tmp/stop; echo 0 >/tmp/rounds
(
  while [ ! -e /tmp/stop ]; do
    dd if=/tmp/load of={disk} bs=64k oflag=direct conv=notrunc 2>/tmp/dd.log || exit
    echo $(($(cat /tmp/rounds) + 1)) >/tmp/rounds
  done
  echo whole >/tmp/stop
) &
for n in $(seq {resets}); do sleep 0.4; nvme reset {controller}; done
echo >/tmp/stop
wait
[ "$(cat /tmp/stop)" = whole ] || {{ cat /tmp/dd.log; exit 1; }}
[ "$(cat /tmp/rounds)" -ge 1 ]
echo 3 >/proc/sys/vm/drop_caches
cmp -n $((12 << 20)) /tmp/load {disk}
rm /tmp/load
""",
        180,
    )


def fio_verify(guest, disk, size_mib, seconds, extra=""):
    code, output = guest.call(fio_command(disk, size_mib, seconds, extra), seconds + 90)
    assert code == 0, f"fio, exit code {code}: {fio_said(output)}\n{logs(guest)}"
    job = json.loads(output[output.index("{") :])["jobs"][0]
    assert job["error"] == 0, fio_said(output)
    assert job["read"]["total_ios"] > 0 and job["write"]["total_ios"] > 0, fio_said(output)
    return job["read"]["total_ios"] + job["write"]["total_ios"]


def fio_said(output):
    """What fio says of a fault stands before its JSON, and the number of the error inside."""
    said, _, report = output.partition("{\n")
    return said[:3000] + "".join(
        line.strip() + " " for line in report.splitlines() if '"error"' in line or "_ios" in line
    )


def logs(guest):
    """What our server and the kernel said last, for the text of a failure."""
    return guest.call("tail -n 5 /run/serve.err 2>/dev/null; dmesg | tail -15")[1]


def fio_command(disk, size_mib, seconds, extra=""):
    return (
        f"{IGNORE_SIGPIPE}"
        f"fio --name=verify --filename={disk} --rw=randrw --bsrange=4k-128k --size={size_mib}M "
        f"--runtime={seconds} --time_based --ioengine=libaio --direct=1 --iodepth=16 "
        f"--verify=crc32c --verify_fatal=1 --verify_backlog=64 --fallocate=none "
        f"--output-format=json {extra}"
    )
