# The doors of the house. `make` alone lists them; what a door does stands in scripts/.

.DEFAULT_GOAL := help
.PHONY: help demo test build install uninstall check docs bench bench-peers crash chaos soak fuzz asan memcheck coverage mutants clean

help: ## list the doors
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s  %s\n", $$1, $$2 }' Makefile

demo: build ## real webhooks through Node, Python and C, killed on the way, nothing lost
	@scripts/demo.sh

test: build ## build, check, and every test that fits in a quarter of an hour
	@scripts/test.sh

build: ## target/release/libmq.so and libmq.a, the Python package in .venv, and the Node package in bindings/node
	@scripts/build.sh

install: ## the C library, its headers, and files for pkg-config and CMake: PREFIX=/usr/local LIBDIR=lib DESTDIR=
	@PREFIX="$(PREFIX)" LIBDIR="$(LIBDIR)" DESTDIR="$(DESTDIR)" scripts/install.sh

uninstall: ## take away what `make install` put there: with the same PREFIX, LIBDIR and DESTDIR
	@PREFIX="$(PREFIX)" LIBDIR="$(LIBDIR)" DESTDIR="$(DESTDIR)" scripts/install.sh remove

check: ## formatting, lints, documentation, the header against the code, and what comes from outside
	@scripts/check.sh

bench: build ## libmq, the bounds of the machine and SQLite side by side, against the figures promised: ONLY=category, or a part of a name
	@scripts/bench.sh own "$(ONLY)"

bench-peers: build ## libmq beside its peers and servers, with plots: ONLY=category, or a part of a contest's name
	@scripts/bench.sh peers "$(ONLY)"

crash: build ## whole crash enumerations, sequences of calls and ten thousand kill rounds: about an hour
	@scripts/crash.sh

chaos: build ## full disks, limits, stops, deaths in handlers, by name: ONLY=name plays one, ONLY=list says what there is
	@scripts/chaos.sh $(ONLY)

soak: build ## a constant load, a kill every 30 seconds, and nothing lost and nothing that grows: HOURS=24
	@scripts/soak.sh $(HOURS)

asan: ## the core, the C library and the programs in C and C++ under AddressSanitizer
	@scripts/asan.sh

memcheck: ## the C and C++ programs under valgrind: nothing read or written that is not theirs, and nothing lost
	@scripts/memcheck.sh

docs: ## the reference of the C library, from its headers: target/reference/html
	@scripts/reference.sh

fuzz: ## bytes and calls that nobody thought of, for a minute each: SECONDS=60
	@FUZZ_SECONDS=$(or $(SECONDS),60) scripts/fuzz.sh

mutants: ## change the codecs, recovery, leases and keys, and see whether a test notices: half an hour
	@scripts/mutants.sh

coverage: ## which lines of the core the tests reach
	@scripts/coverage.sh

clean: ## remove everything that was built or fetched
	cargo clean
	rm -rf .venv
