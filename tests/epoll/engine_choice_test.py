#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Which engine a daemon takes where io_uring is refused, and what it says.

usage: engine_choice_test.py DENY_SYSCALLS BB_SERVE BB
"""
import subprocess
import sys
import unittest

DENY, SERVE, BB = sys.argv[1:4]
REFUSED = {"EPERM": "Operation not permitted (errno 1)",
           "ENOSYS": "Function not implemented (errno 38)"}  # fmt: skip


def serve(*options, refused=None):
    """Starts bb-serve, ends it once it is ready -> (exit status, lines on stderr)."""
    prefix = [DENY, refused, "io_uring_setup"] if refused else []
    command = [*prefix, SERVE, "--device", "mem:1M", "--nbd", "127.0.0.1:0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("ready"):
                process.terminate()
        return process.wait(), process.stderr.read().splitlines()


def io_uring_works():
    return serve("--engine", "io_uring")[0] == 0


class EngineChoice(unittest.TestCase):
    def test_falls_back_and_says_so_once(self):
        for refused, why in REFUSED.items():
            status, lines = serve(refused=refused)
            self.assertEqual(status, 0, lines)
            self.assertEqual(len(lines), 1, lines)
            self.assertIn(f"io_uring cannot be set up: {why}", lines[0])
            self.assertIn("-> epoll", lines[0])

    def test_what_was_asked_for_needs_no_word(self):
        self.assertEqual(serve("--engine", "epoll", refused="EPERM"), (0, []))
        self.assertEqual(serve("--engine", "epoll"), (0, []))

    def test_io_uring_alone_fails_with_the_reason(self):
        status, lines = serve("--engine", "io_uring", refused="EPERM")
        self.assertNotEqual(status, 0)
        self.assertIn("io_uring cannot be set up: Operation not permitted", lines[0])
        self.assertIn("[not_supported]", lines[0])

    def test_where_it_works_nothing_is_said(self):
        if not io_uring_works():
            self.skipTest("io_uring is refused on this machine")
        self.assertEqual(serve(), (0, []))

    def test_an_engine_has_a_known_name(self):
        status, lines = serve("--engine", "kqueue")
        self.assertEqual(status, 2)
        self.assertIn("kqueue", lines[0])

    def test_a_question_to_a_daemon_needs_no_ring(self):
        command = [BB, "--socket", "/nonexistent/x.sock", "drive", "list"]
        asked = subprocess.run(
            [DENY, "EPERM", "io_uring_setup", *command], capture_output=True, text=True, check=False
        )
        self.assertNotIn("io_uring", asked.stderr)
        self.assertIn("/nonexistent/x.sock", asked.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
