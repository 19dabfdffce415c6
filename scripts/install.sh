#!/bin/sh
# Installs the C library as any other: `install.sh`, or `install.sh remove`. PREFIX (/usr/local), LIBDIR (lib, below it) and
# DESTDIR (nothing) say where. What is installed can be moved as a whole: its files find each other by where they are.
set -eu
. "$(dirname "$0")/lib.sh"

prefix=${PREFIX:-/usr/local} libdir=${LIBDIR:-lib}
case $prefix in /*) ;; *) die "PREFIX is $prefix, but has to be absolute" ;; esac
case $libdir in /* | *..*) die "LIBDIR is $libdir, but has to lie below PREFIX" ;; esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
into=${DESTDIR:-}$prefix
lib=$into/$libdir

if [ "${1:-}" = remove ]; then
	rm -f "$lib/libmq.so" "$lib/libmq.so.${version%%.*}" "$lib/libmq.so.$version" "$lib/libmq.a" "$lib/pkgconfig/libmq.pc" \
		"$into/include/libmq.h" "$into/include/libmq.hpp"
	rm -rf "$lib/cmake/libmq"
	# Directories that nobody else has put anything into.
	[ ! -d "$into" ] || (cd "$into" && rmdir -p "$libdir/pkgconfig" "$libdir/cmake" include 2>/dev/null) || :
	exit 0
fi

# Whoever installs as root has built before, and may have no cargo.
if have cargo; then scripts/build.sh c >"$target/install.log" 2>&1 || { cat "$target/install.log"; die "the build failed"; }; fi
[ -f "$target/release/libmq.so" ] && [ -f "$target/release/libmq.a" ] || die "nothing is built: make build"

# From a directory below the prefix back to it.
up() {
	printf '%s' "$1" | sed 's|[^/][^/]*|..|g'
}

# fill FILE DIRECTORY: installs a file of which @…@ are what they say here.
fill() {
	mkdir -p "$into/$2"
	sed -e "s|@VERSION@|$version|g" -e "s|@MAJOR@|${version%%.*}|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@UP@|$(up "$2")|g" \
		"scripts/install/$1.in" >"$into/$2/$1"
	chmod 644 "$into/$2/$1"
}

mkdir -p "$lib" "$into/include"
install -m 755 "$target/release/libmq.so" "$lib/libmq.so.$version"
install -m 644 "$target/release/libmq.a" "$lib/libmq.a"
# Debuggers want lines, programs do not: what is shipped is a fifth of what is built.
strip --strip-unneeded "$lib/libmq.so.$version"
strip --strip-debug "$lib/libmq.a"
ln -sf "libmq.so.$version" "$lib/libmq.so.${version%%.*}"
ln -sf "libmq.so.${version%%.*}" "$lib/libmq.so"
install -m 644 include/libmq.h include/libmq.hpp "$into/include"
fill libmq.pc "$libdir/pkgconfig"
fill libmqConfig.cmake "$libdir/cmake/libmq"
fill libmqConfigVersion.cmake "$libdir/cmake/libmq"
printf 'libmq %s is in %s\n' "$version" "$into"
