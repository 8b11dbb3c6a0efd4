#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The same seed gives the same trace: twice in one build, in the build with mutants compiled in (and
# none active), and in other builds named in BB_SIM_OTHERS (debug, release, ASan).
set -eu
mine=$1
shift
want=$("$mine" array --runs 40 --trace-hash | grep '^seed')
for other in "$mine" "$@" ${BB_SIM_OTHERS:-}; do
  got=$("$other" array --runs 40 --trace-hash | grep '^seed')
  if [ "$want" != "$got" ]; then
    echo "$other: the traces differ from those of $mine"
    exit 1
  fi
  echo "same 40 traces: $other"
done
