# SPDX-License-Identifier: Apache-2.0
"""What tests share that run our own programs inside a guest."""
import argparse
import shutil
import subprocess
import sys
import tempfile
import time

from kernel_log import Watch
from kernels import META_PACKAGES, Unavailable
from machine import GuestError

# Shell functions for scripts in the guest; what a script did is shown when it fails.
HELPERS = r"""
exec 2>/run/trace; set -x
start_daemon() {  # COMMAND...: in the background, until it says "ready"; then says what it said
  : >/run/serve.out
  setsid "$@" >/run/serve.out 2>/run/serve.err </dev/null &
  echo $! >/run/serve.pid
  n=0
  until grep -q '^ready' /run/serve.out; do
    n=$((n + 1))
    if [ $n -gt 300 ] || ! kill -0 $!; then cat /run/serve.*; return 1; fi
    sleep 0.05
  done
  cat /run/serve.out
}
end() {  # SIGTERM must end it in order
  kill -TERM $(cat /run/serve.pid)
  wait_gone
}
wait_gone() {
  n=0
  while kill -0 $(cat /run/serve.pid) 2>/dev/null; do
    n=$((n + 1)); [ $n -lt 200 ] || { echo "it does not end"; cat /run/serve.*; return 1; }
    sleep 0.05
  done
}
refused() {  # EXIT-CODE TEXT COMMAND...
  code=$1 text=$2; shift 2
  got=0; "$@" >/run/refused 2>&1 </dev/null || got=$?
  cat /run/refused
  [ $got = $code ] && grep -q "$text" /run/refused
}
"""


class Scenario:
    """Steps that print their duration and look at the kernel's log."""

    def __init__(self, guest, long):
        self.guest, self.long = guest, long

    def step(self, name, function, *arguments, expected=()):
        print(f"  {name} ... ", end="", flush=True)
        started = time.monotonic()
        with Watch(self.guest, name, expected):
            result = function(*arguments)
        print(f"{time.monotonic() - started:.1f} s", flush=True)
        return result

    def sh(self, script, seconds=60):
        code, output = self.guest.call("set -e\n" + HELPERS + script, seconds)
        if code != 0:
            told = self.guest.call("tail -25 /run/trace; tail -n 5 /run/serve.*")[1]
            raise GuestError(f"in the guest, exit code {code}:\n{script}\n{output}\n{told}")
        return output


def main(run, parser=None):
    """run(options, folder); exit code 0 passed, 1 failed, 77 skipped (with "skipped: why")."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("kernel", choices=META_PACKAGES)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--build-dir", default="build")
    options = parser.parse_args()
    started, folder = time.monotonic(), tempfile.mkdtemp(prefix="bb-guest-test.")
    try:
        run(options, folder)
    except Unavailable as why:
        print(f"skipped: {why}")
        sys.exit(77)
    except (AssertionError, GuestError, subprocess.SubprocessError) as fault:
        print(f"FAILED: {fault}")
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"passed in {time.monotonic() - started:.0f} s")
