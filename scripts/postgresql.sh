#!/usr/bin/env bash
# Provides the PostgreSQL server for tests of the job history: an installed one, or the
# distribution's packages, verified by apt and unpacked below .postgresql/. Nothing is installed,
# so no service starts automatically. An existing one is kept.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$project/scripts/environment.sh"

unpacked=$project/.postgresql
by_hand="install PostgreSQL's server (Debian, Ubuntu: apt-get install postgresql; macOS: brew
install postgresql; Fedora: dnf install postgresql-server)"

runs() { # $1 the folder of the programs, $2 the folder of libraries that came with them
  LD_LIBRARY_PATH=${2:-} "$1/postgres" --version >/dev/null 2>&1 </dev/null &&
    LD_LIBRARY_PATH=${2:-} "$1/initdb" --version >/dev/null 2>&1 </dev/null
}

for programs in /usr/lib/postgresql/*/bin "$(dirname "$(command -v postgres || echo /-/-)")"; do
  if runs "$programs"; then exit 0; fi
done
for programs in "$unpacked"/usr/lib/postgresql/*/bin; do
  if runs "$programs" "$unpacked/libraries"; then exit 0; fi
done

command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
  fail "the tests run a PostgreSQL server, and without apt-get it cannot be fetched; $by_hand."
say "Fetching PostgreSQL for the tests into .postgresql/"
scratch=$(mktemp -d "$project/.postgresql-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

unreachable() {
  tail -n 5 apt.log >&2
  fail "PostgreSQL could not be fetched; the lines above say why. Check the network, or $by_hand."
}

# The server and the libraries that are missing. Its query compiler is large and not needed, and
# core libraries of the system are never replaced.
missing_packages() {
  apt-get "${apt[@]}" -s install --no-install-recommends postgresql 2>>apt.log |
    awk '$1 == "Inst" && $2 ~ /^(postgresql-[0-9]+|lib.*)$/ &&
      $2 !~ /^(libllvm.*|libz3.*|lib.*-perl|libperl.*|libc6|libc-bin)$/ { print $2 }'
}

apt=(-q -o APT::Sandbox::User=root)
packages=$(missing_packages)
# shellcheck disable=SC2086 # one word per package
if [ -z "$packages" ] || ! apt-get "${apt[@]}" download $packages >>apt.log 2>&1; then
  # Separate package lists: those of the system may be missing or old, and only root can update them.
  mkdir -p lists/partial cache/archives/partial
  rm -f ./*.deb
  apt+=(-o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o Acquire::Languages=none)
  apt-get "${apt[@]}" update >>apt.log 2>&1 || unreachable
  packages=$(missing_packages)
  # shellcheck disable=SC2086
  [ -n "$packages" ] && apt-get "${apt[@]}" download $packages >>apt.log 2>&1 || unreachable
fi
for package in ./*.deb; do dpkg -x "$package" tree; done

mkdir -p kept/usr/lib kept/usr/share kept/libraries
mv tree/usr/lib/postgresql kept/usr/lib/ && mv tree/usr/share/postgresql kept/usr/share/
rm -rf kept/usr/lib/postgresql/*/lib/bitcode kept/usr/share/postgresql/*/man
find tree -name '*.so.*' -exec mv -t kept/libraries {} +
chmod -R go+rX kept
for programs in kept/usr/lib/postgresql/*/bin; do
  runs "$programs" "$PWD/kept/libraries" ||
    fail "the fetched PostgreSQL does not run on this machine; $by_hand."
done
rm -rf "$unpacked"
mv kept "$unpacked"
