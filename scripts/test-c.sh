#!/bin/sh
# Compiles and runs every program in C and C++: tests/c, tests/cpp, the examples, and those that the guide and the README show,
# against the headers and the shared library, each in an empty directory. Compilers that are there beside the first one, and
# later standards of C++, have nothing to say either.
set -eu
. "$(dirname "$0")/lib.sh"
. scripts/c-programs.sh

out="$target/c"
mkdir -p "$out"
ran=0

need c++ g++ || die "a C++ compiler is needed"

run() {
	compiled "$1"
	run_program "$1" "$program" "${2:-}"
	ran=$((ran + 1))
}

# Looks at a program with another compiler, as another standard.
look() {
	compiler=clang flags=$c_flags
	is_cpp "$1" && compiler=$look_as flags="-std=$look_std $cxx_flags"
	# shellcheck disable=SC2086
	$compiler $flags -Iinclude -fsyntax-only "$1"
}

each_program run "$out"
[ "$ran" -gt 15 ] || die "only $ran programs were found"

# What the guide shows says why a call has failed. An error that was an argument beside the call that sets it was read before.
rm -rf "$out/failing"
mkdir -p "$out/failing"
: >"$out/failing/queue-data"
if (cd "$out/failing" && "$out/guide-c") >"$out/failing.log" 2>&1; then die "guide.c opened a file as a directory"; fi
grep -q '^INVALID: .*queue-data' "$out/failing.log" || { cat "$out/failing.log"; die "guide.c does not say why it failed"; }
echo "guide.c, where it fails: $(cat "$out/failing.log")"

# shellcheck disable=SC2086
hidden() { c++ -std=c++17 $cxx_flags -fvisibility=hidden -Iinclude "$@" -L"$target/release" -Wl,-rpath,"$target/release:$out" -lmq -pthread; }
hidden -shared -fPIC tests/cpp/hidden/library.cpp -o "$out/libhidden.so"
hidden tests/cpp/hidden/main.cpp "$out/libhidden.so" -o "$out/hidden"
run_program tests/cpp/hidden "$out/hidden" ""

if need clang clang && have clang++; then
	look_as=clang++ look_std=c++20
	each_program look "$out"
	echo "clang: nothing to say"
else
	skip "C programs with clang: it cannot be installed"
fi
for std in c++20 c++23; do
	look_as=c++ look_std=$std
	look tests/cpp/queue.cpp
	look tests/cpp/handlers.cpp
done
echo "C++20 and C++23: nothing to say"

# Whoever has no .NET misses nothing of libmq's.
rm -rf "$out/cs"
mkdir -p "$out/cs/target"
cp examples/c/Orders.cs examples/c/Orders.csproj "$out/cs"
if have dotnet; then
	sharp() { dotnet run; }
elif have mcs && have mono; then
	sharp() { mcs -warnaserror Orders.cs && mono Orders.exe; }
else
	echo "Orders.cs: not compiled, there is no .NET here"
	exit 0
fi
(cd "$out/cs" && LD_LIBRARY_PATH="$target/release" sharp) >"$out/cs.log" 2>&1 || { cat "$out/cs.log"; die "Orders.cs failed"; }
grep -q 'took the order of 3 books' "$out/cs.log" || { cat "$out/cs.log"; die "Orders.cs handled nothing"; }
echo "Orders.cs: took the order"
