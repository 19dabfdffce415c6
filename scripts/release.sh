#!/bin/sh
# What has to hold before a version is tagged, beside `make test`: the interface of the last one, the size of what is shipped,
# and that what the changelog and the packages say is one version.
set -eu
. "$(dirname "$0")/lib.sh"

: >"$LIBMQ_SKIPS"

say "one version"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
grep -q "^#define LIBMQ_VERSION \"$version\"$" include/libmq.h || die "include/libmq.h is of another version than $version"
grep -q "\"version\": \"$version\"" bindings/node/package.json || die "bindings/node is of another version than $version"
grep -q "^## \[$version\]" CHANGELOG.md || echo "CHANGELOG.md has no section for $version yet"
echo "$version"

say "the interface"
scripts/abi.sh

say "what is shipped"
scripts/build.sh c
scripts/test-install.sh
scripts/test-cargo-c.sh

sed 's/^/SKIPPED: /' "$LIBMQ_SKIPS"
[ ! -s "$LIBMQ_SKIPS" ] || die "nothing may be skipped before a release"
