# The programs in C and C++ that are compiled and run: the tests, the examples, and what the guide and the README show. Sourced
# after lib.sh by the scripts that run them as they are, under AddressSanitizer, and under valgrind.

c_flags="-std=c11 -Wall -Wextra -Wpedantic -Werror"
cxx_flags="-Wall -Wextra -Wpedantic -Werror -Wconversion -Wshadow -Wold-style-cast"

# each_program COMMAND DIRECTORY: calls it with each source and, where that is told, the last line of its output. The
# directory takes those that are made of documents.
each_program() {
	for source in tests/c/*.c tests/cpp/*.cpp; do "$1" "$source" || return; done
	"$1" examples/orders/orders.c "9 acked, 1 retried, 1 dead" &&
		"$1" examples/orders/orders.cpp "9 acked, 1 retried, 1 dead" &&
		"$1" examples/c/pull.c "3 acked, 1 retried" &&
		"$1" examples/c/async.c "1000 durable, 0 failed, 0 out of order" || return
	mkdir -p "$2"
	shown docs/c.md c "$2/guide.c"
	shown docs/c.md cpp "$2/guide.cpp"
	shown README.md cpp "$2/readme.cpp"
	"$1" "$2/guide.c" "100 of 100 are durable" && "$1" "$2/guide.cpp" accepted && "$1" "$2/readme.cpp" "paid for 3 books"
}

# shown DOCUMENT LANGUAGE FILE: makes one program of what a document shows in a language: pieces with a function or an #include
# as they are, and the others, in their order, in main. The file is left alone if it is that already.
shown() {
	awk -v fence="\`\`\`$2" '
		$0 == fence { is_in = 1; piece = ""; is_outer = 0; next }
		$0 == "```" && is_in { is_in = 0; if (is_outer) outer = outer piece; else inner = inner piece; next }
		is_in { piece = piece $0 "\n" }
		is_in && /^#include|^static .*\) \{$/ { is_outer = 1 }
		END { printf "%s", outer; if (inner != "") printf "\nint main(void) {\n%s}\n", inner }
	' "$1" >"$3.new"
	if cmp -s "$3.new" "$3"; then rm "$3.new"; else mv "$3.new" "$3"; fi
}

# is_cpp SOURCE: whether it is C++.
is_cpp() {
	case $1 in *.cpp) true ;; *) false ;; esac
}

# compiled SOURCE: compiles a program for the library that is shipped, unless that was done, and sets `program` to it.
compiled() {
	compiler=cc flags=$c_flags
	is_cpp "$1" && compiler=c++ flags="-std=c++17 $cxx_flags"
	program="$target/c/$(basename "$1" | tr . -)"
	mkdir -p "$target/c"
	[ -z "$(find "$1" include tests/c/check.h tests/cpp/check.hpp scripts/c-programs.sh -newer "$program" 2>&1)" ] ||
		# Flags are words.
		# shellcheck disable=SC2086
		$compiler $flags -O1 -g -Iinclude "$1" -o "$program" -L"$target/release" -Wl,-rpath,"$target/release" -lmq -pthread
}

# run_program SOURCE PROGRAM LAST-LINE COMMAND...: runs it in an empty directory, under a command if there is one, and says
# how its output ends; a program whose output is known has to end so.
run_program() {
	source=$1 program=$2 last=$3
	shift 3
	rm -rf "$program.dir"
	mkdir -p "$program.dir/target"
	(cd "$program.dir" && "$@" "$program") >"$program.log" 2>&1 || { cat "$program.log"; die "$source failed"; }
	ended=$(tail -n 1 "$program.log")
	[ -z "$last" ] || [ "$ended" = "$last" ] || { cat "$program.log"; die "$source ended with '$ended', not '$last'"; }
	printf '%s: %s\n' "$(basename "$source")" "$ended"
	rm -rf "$program.dir"
}
