#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ./dev must refuse in one clear sentence, with the right exit code, and leave nothing behind.
# Each case runs a copy of ./dev in an empty tree; the fakes in its PATH note what they were asked.
set -eu
source=$(cd "$(dirname "$0")/../.." && pwd)
outer=$(mktemp -d)
trap 'rm -rf "$outer"' EXIT
failures=0 cases=0

# fake NAME: the script on standard input becomes the first NAME in PATH.
fake() {
  { echo '#!/bin/sh' && echo "echo \"$1 \$*\" >>\"$scratch/calls\"" && cat; } >"$scratch/bin/$1"
  chmod +x "$scratch/bin/$1"
}

# A machine where all is well; each case breaks one thing.
good_machine() {
  scratch=$outer/machine
  rm -rf "$scratch"
  mkdir -p "$scratch/bin" "$scratch/tree/packaging" "$scratch/tmp"
  : >"$scratch/calls"
  cp "$source/dev" "$scratch/tree/dev"
  printf '# a comment\nalpha\nbeta # why\n\n' >"$scratch/tree/packaging/debian-packages.txt"
  printf 'ID=debian\nVERSION_ID="12"\n' >"$scratch/os-release"
  fake dpkg-query <<'END'
printf 'alpha=installed beta=installed '
END
  fake id <<'END'
echo 0
END
  fake apt-get <<'END'
exit 0
END
  fake clang++-19 <<'END'
echo 19.1.7
END
  fake meson <<'END'
case $1 in setup) touch "$2/build.ninja" ;; esac
END
  fake ninja <<'END'
exit 0
END
}

missing_packages() {
  fake dpkg-query <<'END'
printf 'alpha=installed beta=not-installed '
exit 1
END
}

complain() {
  failures=$((failures + 1))
  echo "FAILED: $name: $*"
  sed 's/^/    stdout: /' "$scratch/out"
  sed 's/^/    stderr: /' "$scratch/err"
}

# expect NAME EXIT-CODE TEXT COMMAND...: TEXT is a part of standard error.
expect() {
  name=$1 code=$2 text=$3
  shift 3
  cases=$((cases + 1)) got=0
  PATH="$scratch/bin:/usr/bin:/bin" BB_OS_RELEASE="$scratch/os-release" TMPDIR="$scratch/tmp" \
    "$scratch/tree/dev" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || got=$?
  [ "$got" = "$code" ] || complain "exit code $got, and $code was expected"
  [ -z "$text" ] || grep -qF -- "$text" "$scratch/err" ||
    complain "standard error does not say \"$text\""
}

# one_sentence: what a refusal must look like, and that it left nothing behind.
one_sentence() {
  [ "$(wc -l <"$scratch/err")" = 1 ] || complain 'standard error is not one line'
  grep -q '^dev: ' "$scratch/err" || complain 'standard error does not begin with "dev: "'
  left=$(cd "$scratch" && find tree tmp | sort | tr '\n' ' ')
  [ "$left" = 'tmp tree tree/dev tree/packaging tree/packaging/debian-packages.txt ' ] ||
    complain "files were left behind: $left"
}

never_called() {
  if grep -q "^$1" "$scratch/calls"; then complain "$1 was called: $(cat "$scratch/calls")"; fi
}

good_machine
expect 'all present: builds without apt-get' 0 '' build
never_called apt-get
grep -q '^meson setup build ' "$scratch/calls" || complain 'meson was not asked to set up build'
grep -q '^ninja -C build' "$scratch/calls" || complain 'ninja was not called'

good_machine && missing_packages
printf 'ID=debian\nVERSION_ID="11"\n' >"$scratch/os-release"
expect 'an older Debian' 1 'needs Debian 12 or newer, and this is debian 11' build
one_sentence && never_called apt-get

good_machine && missing_packages
printf 'ID=fedora\nVERSION_ID=40\n' >"$scratch/os-release"
expect 'another system' 1 'and this is fedora 40' build
one_sentence && never_called apt-get

good_machine && missing_packages && rm "$scratch/os-release"
expect 'a system without os-release' 1 'and this is an unknown system' demo
one_sentence && never_called apt-get

good_machine && missing_packages
fake id <<'END'
echo 1000
END
expect 'not root' 1 'only root can install the missing Debian packages' test
grep -q 'Debian packages (1: beta ...)' "$scratch/err" || complain 'no package named'
one_sentence && never_called apt-get

good_machine && missing_packages
fake apt-get <<'END'
case " $* " in
  *' update '*) exit 0 ;;
  *' --download-only '*) echo 'E: Could not resolve deb.example' >&2 && exit 100 ;;
esac
END
expect 'no network' 1 'is there a network? E: Could not resolve deb.example' build
one_sentence
[ "$(grep -c '^apt-get .*install' "$scratch/calls")" = 1 ] || complain 'it went on to install'

good_machine && missing_packages
expect 'packages are fetched, then installed' 0 '' build
grep '^apt-get .*install' "$scratch/calls" >"$scratch/installs" || true
[ "$(wc -l <"$scratch/installs")" = 2 ] || complain 'not two runs of apt-get install'
grep -q 'alpha' "$scratch/installs" && complain 'an installed package was asked for'
sed -n 1p "$scratch/installs" | grep -q download-only || complain 'the first does not only download'
sed -n 2p "$scratch/installs" | grep -q download-only && complain 'the second only downloads'

good_machine
fake clang++-19 <<'END'
echo 18.1.0
END
expect 'too old a compiler' 1 'is version 18.1.0, and version 19 or newer is needed' build
one_sentence && never_called meson

good_machine
fake clang++-19 <<'END'
exit 127
END
expect 'a broken compiler' 1 'the compiler clang++-19 does not run' build
one_sentence && never_called meson

good_machine
fake meson <<'END'
echo 'ERROR: a dependency is absent' && exit 1
END
expect 'configuration fails' 1 'configure build failed; the whole log is build/logs' build
grep -q 'a dependency is absent' "$scratch/err" || complain 'the log was not shown'
never_called ninja

good_machine
fake ninja <<'END'
echo 'error: expected a semicolon' && exit 1
END
expect 'compilation fails' 1 'error: expected a semicolon' build

good_machine
expect 'an unknown command' 2 'there is no command "frobnicate"' frobnicate
never_called dpkg-query
expect 'no command' 0 ''
expect 'help' 0 '' help
grep -q '^usage: ./dev COMMAND' "$scratch/out" || complain 'no usage'
never_called dpkg-query

echo "$cases cases, $failures failures"
[ "$failures" = 0 ]
