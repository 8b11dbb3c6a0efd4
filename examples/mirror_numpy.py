#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""RAID 1 from Python with numpy: two files, one array, a lost member, nothing lost."""
import sys
import tempfile

import numpy

import blockbridge as bb


def main(directory):
    numbers = numpy.arange(1 << 20, dtype=numpy.uint32)  # 4 MiB
    with bb.Runtime() as runtime, runtime.open(
        f"file:{directory}/a.img?create=1&size=64M"
    ) as a, runtime.open(f"file:{directory}/b.img?create=1&size=64M") as b, bb.Array.create(
        [a, b], name="numbers", store=f"file:{directory}/cluster.db", assume_clean=True
    ) as array:
        array.write(0, numbers)
        array.flush()
        lost = array.state["members"][0]["uuid"]
        array.fail_member(lost)
        numbers[:1024] = 7
        array.write(0, numbers[:1024])  # one member only, and the array knows it
        array.readmit_member(lost)
        array.wait_clean()
        back = numpy.empty_like(numbers)
        array.read_into(0, back)
        print(f"{array.state['state']}: {int((back == numbers).sum())} of {numbers.size} equal")
        return 0 if (back == numbers).all() else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else scratch))
