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
# Above the budget the superblocks of both copies rotted; the checker wanted the array to start.
"$sim" array --seed 9799 --above-budget
# A promotion waited for its turn while its member was failed by hand; writes counted it already.
"$sim" array --seed 5033358
# The last in-sync copy went while it was not known whether another had been promoted: reads and
# writes wait for the answer instead of failing.
"$sim" array --seed 6907956502998
# A member lost power while its promotion was asked for and not yet decided; the checker held the
# copy that was promoted later for one that had come back since.
"$sim" array --seed 1007141
# A block whose member had just come in was worked out from others, of which one had just failed.
"$sim" stripes --seed 27137
# The only copy that could be read had an unreadable sector, and it was not yet known whether
# another member had been promoted.
"$sim" array --seed 2075955
# A dataplane that had stood still heard of an error long after it; the budget had taken that
# drive for whole meanwhile, and the other was failed by hand.
"$sim" array --seed 4010400
# Writes were journaled without a member that had failed, before that was committed: it counted
# again after the crash, and the entries were done again without it.
"$sim" array --seed 2109
"$sim" stripes --seed 4646
# Above the budget a member that had not written in place was taken back and read before its journal
# had been gone through.
"$sim" array --seed 3649 --above-budget
# The world let members be absent while others had unreadable sectors: more than the level bears.
"$sim" array --seed 6053889
# A page of checksums that was found damaged was blank at the second look of the same read, and rot
# passed; it was given up and fetched again, for ever; two pages drove each other out of memory.
"$sim" checked --seed 28504
"$sim" checked --seed 513
"$sim" checked --seed 9
# Of arrays with parity: a misplaced write fell on a block that was never written, of which nothing
# was recorded; a torn page took the blank one with it; who came in meanwhile had no page in memory.
"$sim" checked --seed 17
"$sim" checked --seed 386
"$sim" checked --seed 8
# Above the budget a stripe was read as before a write that failed, and recovery did it after all.
"$sim" array --seed 2796677400148 --above-budget
