#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a command with an empty directory as its last argument, which is removed afterwards.
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$@" "$scratch"
