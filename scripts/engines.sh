#!/usr/bin/env bash
# Provides the three servers that the client is tested against, below .engines/: Prometheus 2,
# Prometheus 3 and VictoriaMetrics. They are Debian's packages, verified by apt against Debian's
# keys and unpacked inside the project; nothing is installed. Existing ones are kept.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$project/scripts/environment.sh"

engines=$project/.engines
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

# name, suite of Debian, package, program
wanted=(
  "prometheus-2 bookworm prometheus prometheus"
  "prometheus-3 forky prometheus prometheus"
  "victoria-metrics bookworm victoria-metrics victoria-metrics"
)

runs() { "$1" --version >/dev/null 2>&1 </dev/null; }

keep_only_program() { # of an unpacked package $1, the program $2
  mkdir "$1.slim" && mv "$1/usr/bin/$2" "$1.slim/$2" && rm -rf "$1" && mv "$1.slim" "$1"
}

missing=()
for engine in "${wanted[@]}"; do
  read -r name _ _ program <<<"$engine"
  runs "$engines/$name/$program" || missing+=("$engine")
done
[ ${#missing[@]} -gt 0 ] || exit 0

by_hand="put the programs there by hand: .engines/prometheus-2/prometheus,
.engines/prometheus-3/prometheus and .engines/victoria-metrics/victoria-metrics"
command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
  fail "the tests run three kinds of servers, and without apt-get they cannot be fetched;
$by_hand."

mkdir -p "$engines"
scratch=$(mktemp -d "$engines/.fetching-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

keyring=
for candidate in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
  [ ! -r "$candidate" ] || keyring=$candidate
done
if [ -z "$keyring" ]; then
  fetch_package debian-archive-keyring ||
    fail "Debian's keys are needed to verify the servers for the tests; install
debian-archive-keyring, or $by_hand."
  keyring=$(find "$scratch/package" -name 'debian-archive-keyring.[pg][gp][pg]' | head -n 1)
fi

mkdir -p lists/partial cache/archives/partial preferences
for suite in bookworm forky; do
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite"
done >sources.list
apt=(apt-get -q -o "Dir::Etc::SourceList=$PWD/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o Dir::Etc::Preferences=/dev/null -o "Dir::Etc::PreferencesParts=$PWD/preferences"
  -o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o APT::Sandbox::User=root
  -o Acquire::Languages=none -o Acquire::Retries=3)

unreachable() {
  tail -n 5 apt.log >&2
  fail "the servers for the tests could not be fetched from $mirror; the lines above say why.
Check the network, name another mirror in DEBIAN_MIRROR, or $by_hand."
}

"${apt[@]}" --error-on=any update >apt.log 2>&1 || unreachable
for engine in "${missing[@]}"; do
  read -r name suite package program <<<"$engine"
  say "Fetching $name for the tests into .engines/"
  mkdir "$name.deb"
  (cd "$name.deb" && "${apt[@]}" download "$package/$suite" >>../apt.log 2>&1) || unreachable
  dpkg -x "$name.deb"/*.deb "$name"
  keep_only_program "$name" "$program"
  runs "$name/$program" || fail "the fetched $name does not run on this machine; $by_hand."
  rm -rf "${engines:?}/$name"
  mv "$name" "$engines/$name"
done
