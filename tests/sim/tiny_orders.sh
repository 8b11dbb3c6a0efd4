#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Trying one order of what commutes meets the same states as trying all: as many distinct moments of
# a crash, and the same ones.
set -eu
sim=$1
for config in mirror stripe-broken; do
  few=$("$sim" tiny --only $config | grep moments | sed 's/),.*/)/')
  all=$("$sim" tiny --only $config --all-orders | grep moments | sed 's/),.*/)/')
  if [ -z "$few" ] || [ "$few" != "$all" ]; then
    echo "$config: one order:$few, all:$all"
    exit 1
  fi
  echo "$config:$few"
done
