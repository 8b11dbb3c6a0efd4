#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Planted bugs that `bb-sim tiny` must find: the choices that it prints show the bug again, and show
# nothing without it.
set -eu
sim=$1

catches() {
  mutant=$1
  config=$2
  if out=$("$sim" tiny --only "$config" --mutant "$mutant"); then
    echo "$mutant: not caught in $config: $out"
    exit 1
  fi
  choices=$(echo "$out" | sed -n 's/^FAILED: .*--choices \([^ ]*\).*/\1/p')
  if "$sim" tiny --only "$config" --mutant "$mutant" --choices "$choices" >/dev/null; then
    echo "$mutant: its choices show nothing: $choices"
    exit 1
  fi
  "$sim" tiny --only "$config" --choices "$choices" >/dev/null || {
    echo "$mutant: its choices fail without it: $choices"
    exit 1
  }
  echo "$mutant: caught in $config by $choices"
}

catches ack-before-commit mirror
catches in-place-early stripe
