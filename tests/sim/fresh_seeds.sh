#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Seeds that no earlier commit has tried: derived from the commit's id, for a few seconds each.
# BB_SIM_SECONDS: how many.
# A failure prints the line that repeats it.
set -eu
sim=$1
commit=$(git -C "$(dirname "$0")" rev-parse --short=7 HEAD 2>/dev/null || echo 1000000)
first=$((0x$commit * 100000))
seconds=${BB_SIM_SECONDS:-5}
echo "seeds from $first, $seconds s each"
"$sim" array --first-seed "$first" --seconds "$seconds"
"$sim" array --above-budget --first-seed "$first" --seconds "$seconds"
"$sim" checked --first-seed "$first" --seconds "$seconds"
"$sim" session --first-seed "$first" --seconds "$seconds"
