#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Seeds that once failed, each with what it showed. They are kept however few runs the others make.
set -eu
sim=$1
# The budget took a member for whole while its removal by hand was under way, and then let bit rot
# take both superblocks of the other: the last copy was gone.
"$sim" array --seed 3854
# The same with a removal by replacement: its member was promoted meanwhile and looked whole.
"$sim" array --seed 6736
# A flush that began before a member was taken in failed when that one was in-sync before it ended.
"$sim" array --seed 7688
# A replacement committed late, after its dataplane had been fenced, and the new member's superblock
# had been wiped although the record named it.
"$sim" array --seed 22955293200959
