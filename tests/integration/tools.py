# SPDX-License-Identifier: Apache-2.0
"""Programs and modules of others that a test needs, and running them."""
import contextlib
import importlib.util
import shutil
import subprocess
import sys
import time


def require(*names, modules=("nbd", "pytest")):
    """Ends the test as skipped where one is missing."""
    missing = [name for name in names if shutil.which(name) is None]
    missing += [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped: not installed: {', '.join(missing)}")
        sys.exit(77)


def run(*words, fails=False):
    """What it printed; `fails`: it must end with an error."""
    done = subprocess.run(
        [str(w) for w in words], capture_output=True, text=True, timeout=300, check=False
    )
    assert fails == (done.returncode != 0), f"{words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@contextlib.contextmanager
def peer(command, socket):
    """A server of others; it is there once its socket is."""
    process = subprocess.Popen([str(word) for word in command])
    try:
        end = time.monotonic() + 20
        while not socket.exists():
            assert process.poll() is None and time.monotonic() < end, f"{command} does not start"
            time.sleep(0.01)
        yield process
    finally:
        process.kill()  # in order, some would first wait for their clients to leave
        process.wait(20)
