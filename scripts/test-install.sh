#!/bin/sh
# Installs the C library, moves the tree, and builds a project outside of it in every way that docs/c.md names; then takes
# it away again. What is shipped has to be small, and to call itself by the name of its interface.
set -eu
. "$(dirname "$0")/lib.sh"

here=$PWD
stage="$target/install"
work="$stage/work"
library_bytes_max=2500000
rm -rf "$stage"
mkdir -p "$work"

say_ran() {
	printf 'installed, %s: %s\n' "$1" "$2"
}

# ran WAY PROGRAM LANGUAGE: runs what was built in an empty directory. The library it finds is the installed one.
ran() {
	rm -rf "$work/run"
	mkdir "$work/run"
	answer=$(cd "$work/run" && LD_LIBRARY_PATH="$tree/lib" "$2") || die "$1: the program failed"
	[ "$answer" = "$3 $version $version" ] || die "$1: the program said '$answer'"
	say_ran "$1" "$answer"
}

# documented LINE: runs a line of docs/c.md in the outside project, as it stands there.
documented() {
	grep -qxF "$1" "$here/docs/c.md" || die "docs/c.md does not say: $1"
	(cd "$work/outside" && eval "$1") || die "docs/c.md says what does not work: $1"
}

DESTDIR="$stage/staged" PREFIX=/usr/local scripts/install.sh
mv "$stage/staged/usr/local" "$stage/moved"
tree="$stage/moved"
cp -R tests/install "$work/outside"
cp tests/install/app.c "$work/outside/orders.c"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

[ "$(readlink "$tree/lib/libmq.so")" = "libmq.so.${version%%.*}" ] || die "libmq.so leads elsewhere"
[ "$(readlink "$tree/lib/libmq.so.${version%%.*}")" = "libmq.so.$version" ] || die "libmq.so.${version%%.*} leads elsewhere"
readelf -d "$tree/lib/libmq.so" | grep -q "SONAME.*\[libmq.so.${version%%.*}\]" || die "libmq.so has another SONAME"
bytes=$(wc -c <"$tree/lib/libmq.so.$version")
[ "$bytes" -le "$library_bytes_max" ] || die "libmq.so has $bytes bytes, but may have $library_bytes_max"
echo "libmq.so.$version: $((bytes)) bytes of $library_bytes_max"

# What static programs are told to link is what Rust asks for; the compiler brings the rest.
asked=$(rustc --crate-type staticlib --print native-static-libs -o "$work/nothing.a" - 2>&1 </dev/null |
	sed -n 's/.*native-static-libs: //p' | tr ' ' '\n' | grep -vx -e -lc -e -lgcc_s | sort -u | tr '\n' ' ')
told=$(sed -n 's/^Libs.private: //p' "$tree/lib/pkgconfig/libmq.pc" | tr ' ' '\n' | sort -u | tr '\n' ' ')
[ "$asked" = "$told" ] || die "libmq.pc says $told, but Rust asks for $asked"
for library in $told; do
	grep -q "INTERFACE_LINK_LIBRARIES.*$library[;\"]" "$tree/lib/cmake/libmq/libmqConfig.cmake" ||
		die "libmqConfig.cmake does not name $library"
done

if need pkg-config pkg-config; then
	export PKG_CONFIG_PATH="$tree/lib/pkgconfig"
	# The line of the guide.
	# shellcheck disable=SC2016
	documented 'cc orders.c $(pkg-config --cflags --libs libmq) -o orders'
	ran pkg-config "$work/outside/orders" C
	# shellcheck disable=SC2016
	documented 'cc orders.c $(pkg-config --cflags libmq) $(pkg-config --variable=libdir libmq)/libmq.a -lutil -lrt -lpthread -lm -ldl -o orders'
	! readelf -d "$work/outside/orders" | grep -q 'NEEDED.*libmq' || die "the static program asks for libmq.so"
	ran libmq.a "$work/outside/orders" C
	# shellcheck disable=SC2016
	documented 'cc -static orders.c $(pkg-config --static --cflags --libs libmq) -o orders' 2>"$work/static.log" ||
		{ cat "$work/static.log"; exit 1; }
	! readelf -d "$work/outside/orders" | grep -q NEEDED || die "the static program asks for a library"
	ran pkg-config-static "$work/outside/orders" C
	# shellcheck disable=SC2046
	c++ -std=c++17 "$work/outside/app.cpp" $(pkg-config --cflags --libs libmq) -o "$work/outside/orders-cpp"
	ran pkg-config "$work/outside/orders-cpp" C++
else
	skip "the installed library by pkg-config: it cannot be installed"
fi

if need cmake cmake; then
	cmake -S "$work/outside" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$tree" >"$work/cmake.log" 2>&1 &&
		cmake --build "$work/cmake" >>"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; die "CMake failed"; }
	ran libmq::libmq "$work/cmake/app-shared" C
	ran libmq::static "$work/cmake/app-static" C
	ran libmq::libmq "$work/cmake/app-cpp" C++
	! readelf -d "$work/cmake/app-static" | grep -q 'NEEDED.*libmq' || die "libmq::static asks for libmq.so"
	sed 's/find_package(libmq 0.1 /find_package(libmq 99 /' tests/install/CMakeLists.txt >"$work/outside/CMakeLists.txt"
	! cmake -S "$work/outside" -B "$work/later" -DCMAKE_PREFIX_PATH="$tree" >/dev/null 2>&1 ||
		die "CMake takes this for a later version"
else
	skip "the installed library by CMake: it cannot be installed"
fi

mkdir "$stage/usr"
mv "$tree" "$stage/usr/local"
DESTDIR="$stage" PREFIX=/usr/local scripts/install.sh remove
left=$(find "$stage/usr/local" -mindepth 1)
[ -z "$left" ] || die "make uninstall leaves $left"
echo "uninstalled: nothing is left"
rm -rf "$stage"
