#!/bin/sh
# What a machine can see without running a test: formatting, lints, documentation, and the header.
set -eu
. "$(dirname "$0")/lib.sh"

say "formatting"
if component fmt rustfmt; then cargo fmt --all --check; else skip "formatting: rustfmt is not installed"; fi

say "lints"
if component clippy clippy; then
	cargo clippy --workspace --all-targets --quiet -- --deny warnings
	# As the libraries for other languages are built.
	cargo clippy --package libmq --no-default-features --quiet -- --deny warnings
	# As for a free-threaded Python, which has no limited API.
	if [ -x .venv/bin/python ]; then
		PYO3_PYTHON="$PWD/.venv/bin/python" cargo clippy --package libmq-python --no-default-features --quiet -- --deny warnings
	fi
else
	skip "lints: clippy is not installed"
fi

say "documentation"
RUSTDOCFLAGS="--deny warnings --document-private-items" cargo doc --workspace --no-deps --quiet

say "the header is what the code declares"
# The test itself says so where there is none, and so it does of the compiler for C++, which comes with it.
need clang clang || :
cargo test --package libmq-ffi --quiet header

say "the reference of the C library"
scripts/reference.sh

say "C and C++: analysers"
scripts/analyze-c.sh

say "what comes from outside: licences, sources, versions"
if deny; then
	# Nothing is fetched that Cargo.lock does not name, and that has been. Known faults are for a release: docs/security.md.
	cargo fetch --locked --quiet
	"$LIBMQ_DENY" --offline --workspace --locked check --hide-inclusion-graph bans licenses sources
else
	skip "what comes from outside: cargo-deny cannot be installed"
fi

say "Python: formatting, lints, types"
export RUFF_CACHE_DIR="$target/ruff" MYPY_CACHE_DIR="$target/mypy"
if python_tool ruff "ruff>=0.17,<0.18"; then
	.venv/bin/ruff format --quiet --check --config bindings/python/pyproject.toml bindings/python examples tests benches
	.venv/bin/ruff check --quiet --config bindings/python/pyproject.toml bindings/python examples tests benches
else
	skip "lints of Python: ruff cannot be installed, or make build has not been run"
fi
# The tests' types are known only where pytest's are, and those of what the package is used with.
python_companions || :
for library in pydantic msgspec; do python_module $library $library || :; done
if python_tool mypy "mypy>=2,<3" && python_tool pytest "pytest>=8" && .venv/bin/python -c 'import libmq' 2>/dev/null; then
	(cd bindings/python && ../../.venv/bin/mypy python/libmq tests)
	# It leaves a cache where it is run.
	venv=$PWD/.venv allowed=$PWD/bindings/python/stubtest.txt
	(cd "$target" && "$venv/bin/python" -m mypy.stubtest --allowlist "$allowed" libmq)
else
	skip "types of Python: mypy cannot be installed, or make build has not been run"
fi
# The package gives pydantic's and msgspec's classes to them as they are, so both have to be there for it to see that.
if python_tool pyright "pyright>=1.1.400,<2" && .venv/bin/python -c 'import pydantic, msgspec' 2>/dev/null &&
	.venv/bin/python -c 'import libmq' 2>/dev/null && .venv/bin/pyright --version >"$target/install.log" 2>&1; then
	.venv/bin/pyright --project bindings/python/pyproject.toml --pythonpath .venv/bin/python
	PATH="$PWD/.venv/bin:$PATH" .venv/bin/pyright --verifytypes libmq --ignoreexternal >"$target/verifytypes.log" 2>&1 ||
		{ cat "$target/verifytypes.log"; die "not all that is public of the Python package has a known type"; }
else
	skip "types of Python: pyright cannot be installed, or make build has not been run"
fi

say "Node: form and types"
if need node nodejs && need npm npm && node_tools; then
	package=bindings/node tools=$LIBMQ_NODE_TOOLS
	"$tools/node_modules/.bin/prettier" --check --log-level warn "$package/**/*.{js,mjs,ts,mts}" "tests/**/*.mjs" \
		"examples/**/*.mjs" "benches/**/*.mjs" "scripts/*.mjs"
	"$tools/node_modules/.bin/tsc" --project "$package/test/types" --typeRoots "$tools/node_modules/@types"
	# Others' types are found only from beside them.
	mkdir -p "$tools/types" "$tools/node_modules/@libmq"
	ln -sfn "$PWD/$package" "$tools/node_modules/@libmq/node"
	cp "$package/test/types/schemas.ts" "$tools/types"
	"$tools/node_modules/.bin/tsc" --noEmit --strict --target ES2022 --lib ES2023,ESNext.Disposable --module NodeNext \
		--moduleResolution NodeNext --skipLibCheck --typeRoots "$tools/node_modules/@types" --types node \
		"$tools/types/schemas.ts"
else
	skip "Node's types and form: npm could not fetch typescript and prettier"
fi
