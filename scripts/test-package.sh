#!/bin/sh
# Whether the Python package installs: `pip install ./bindings/python` into an environment of its own, where nothing else is,
# and what its source distribution holds. That is built whole where LIBMQ_SDIST is set, which takes minutes.
set -eu
. "$(dirname "$0")/lib.sh"

.venv/bin/python -c 'import libmq' 2>/dev/null || { skip "Python: the package is not built"; exit 0; }
python_tool maturin "maturin>=1.14,<2" || { skip "Python: maturin cannot be installed"; exit 0; }
house=$PWD
door="$target/door"
rm -rf "$door"
mkdir -p "$door/sdist"
export PATH="$house/.venv/bin:$PATH"
log="$door/log"

# installs FROM: in an environment that has nothing, it works.
installs() {
	.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir "$door/wheels" \
		"$1" >"$log" 2>&1 || { cat "$log"; die "pip does not build $1"; }
	rm -rf "$door/venv"
	.venv/bin/python -m venv "$door/venv"
	"$door/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index "$door"/wheels/*.whl
	(cd "$door" && "$door/venv/bin/python" -X dev -W error "$house/bindings/python/smoke.py")
	rm -rf "$door/wheels"
}

installs ./bindings/python

.venv/bin/maturin sdist --manifest-path bindings/python/Cargo.toml --out "$door/sdist" >"$log" 2>&1 || { cat "$log"; die "no sdist"; }
tar -xzf "$door"/sdist/*.tar.gz -C "$door/sdist"
unpacked=$(echo "$door"/sdist/libmq-*/)
cargo metadata --offline --locked --quiet --format-version 1 --manifest-path "${unpacked}Cargo.toml" >/dev/null ||
	die "the lock of the source distribution is not that of what is in it: scripts/lock-sdist.sh makes it"
for licence in LICENSE-APACHE LICENSE-MIT; do
	cmp -s "$licence" "$unpacked$licence" || die "the source distribution has no $licence"
done
[ -z "${LIBMQ_SDIST:-}" ] || installs "$(echo "$door"/sdist/*.tar.gz)"
echo "package: it installs, and so does its source distribution"
