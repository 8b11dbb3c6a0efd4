#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The counts that ./dev prints last must tell the truth, also when a run left no record."""
import contextlib
import io
import json
import pathlib
import tempfile

import test_runs


def summary_of(*records):
    """(exit code, lines) for records given as lists of (name, result, stdout); None = no file."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, record in enumerate(records):
            paths.append(pathlib.Path(folder, f"{number}.json"))
            if record is not None:
                lines = [
                    json.dumps({"name": name, "result": result, "stdout": stdout})
                    for name, result, stdout in record
                ]
                paths[-1].write_text("".join(line + "\n" for line in lines))
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = test_runs.summary(paths)
        return code, output.getvalue().splitlines()


def main():
    good, skip = ("a", "OK", ""), ("b", "SKIP", "noise\nskipped: no QEMU\n")
    cases = [
        ("all pass", [[good, good], [good]], 0, "3 passed, 0 failed, 0 skipped"),
        ("a skip is no pass", [[good, skip]], 0, "1 passed, 0 failed, 1 skipped"),
        ("only skips", [[skip]], 1, "0 passed, 0 failed, 1 skipped"),
        ("nothing ran", [[]], 1, "0 passed, 0 failed, 0 skipped"),
        ("a failure", [[good], [("c", "FAIL", "")]], 1, "1 passed, 1 failed, 0 skipped"),
        ("a timeout", [[good, ("c", "TIMEOUT", "")]], 1, "1 passed, 1 failed, 0 skipped"),
        ("an error", [[good, ("c", "ERROR", "")]], 1, "1 passed, 1 failed, 0 skipped"),
        ("an unexpected word", [[good, ("c", "NEW", "")]], 1, "1 passed, 1 failed, 0 skipped"),
        (
            "an expected failure",
            [[("c", "EXPECTEDFAIL", "")]],
            0,
            "1 passed, 0 failed, 0 skipped",
        ),
        ("no record", [[good], None], 1, "1 passed, 1 failed, 0 skipped"),
    ]
    for name, records, code, last in cases:
        got_code, lines = summary_of(*records)
        assert (got_code, lines[-1]) == (code, last), f"{name}: {got_code} {lines}"
    assert any(line.endswith("b: no QEMU") for line in summary_of([good, skip])[1]), "no reason"
    print(f"{len(cases)} summaries")


if __name__ == "__main__":
    main()
