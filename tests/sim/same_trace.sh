#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The same seed gives the same trace: twice in one build, in the build with mutants compiled in (and
# none active), and in other builds named in BB_SIM_OTHERS (debug, release, ASan).
set -eu
mine=$1
shift

traces() {
  for kind in array session; do "$1" "$kind" --runs 40 --trace-hash | grep '^seed'; done
}

want=$(traces "$mine")
[ "$(echo "$want" | wc -l)" = 80 ] || {
  echo "$mine: not 80 traces: $want"
  exit 1
}
for other in "$mine" "$@" ${BB_SIM_OTHERS:-}; do
  got=$(traces "$other")
  if [ "$want" != "$got" ]; then
    echo "$other: the traces differ from those of $mine"
    exit 1
  fi
  echo "same 80 traces: $other"
done
