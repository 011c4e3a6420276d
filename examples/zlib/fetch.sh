#!/bin/sh
# Fetches the source of zlib 1.2.13 with apt, from the servers that this machine takes its packages from, into `zlib/`.
# Nothing is accepted but the bytes named here. The machine's own lists of packages stay as they are.
set -eu
SHA256=71feb7947e3c00ef125f83b79a4e529bde31171e5babe48b391f06758d1ab0a1
archive=zlib_1.2.13.dfsg.orig.tar.bz2

apt=$TMPDIR/apt
mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/cache/archives/partial"
# The first paragraph names the release itself; `deb-src` asks for its sources.
awk 'BEGIN { RS = "" } NR == 1' /etc/apt/sources.list.d/debian.sources |
  sed 's/^Types:.*/Types: deb-src/; s/^Suites:.*/Suites: bookworm/' > "$apt/parts/debian.sources"
cat > "$apt/apt.conf" <<EOF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/parts";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
EOF
export APT_CONFIG=$apt/apt.conf
apt-get -qq update
(cd "$apt" && apt-get -qq source --download-only zlib=1:1.2.13.dfsg-1)

if ! echo "$SHA256  $apt/$archive" | sha256sum --check --status; then
  echo "zlib from the mirror is not the source that this build knows:" >&2
  sha256sum "$apt/$archive" >&2
  exit 1
fi
mkdir zlib
# Who unpacks it owns it: in a sandbox root may give files to nobody else.
tar -xjf "$apt/$archive" --no-same-owner --strip-components=1 -C zlib --wildcards --no-wildcards-match-slash \
  '*/*.c' '*/*.h' '*/test/*.c'
