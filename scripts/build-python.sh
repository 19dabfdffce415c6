#!/bin/sh
# Builds the Python package and leaves it in .venv, with what is needed to test it.
set -eu
. "$(dirname "$0")/lib.sh"

# The first Python that is new enough, if need be the system's after installing it.
find_python() {
	for python in python3 python3.11 python3.12 python3.13 python3.14 python3.15; do
		if have "$python" && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
			echo "$python"
			return 0
		fi
	done
	return 1
}

# A .venv that works: one whose Python has left the machine is made anew.
make_venv() {
	.venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return 0
	rm -rf .venv
	"$python" -m venv .venv >"$target/install.log" 2>&1 && return 0
	# Some systems have venv in a package of its own.
	rm -rf .venv
	system_package python3-venv && "$python" -m venv .venv >"$target/install.log" 2>&1
}

python=$(find_python) || { system_package python3 && python=$(find_python); } || {
	skip "Python: there is no Python of 3.11 or later"
	exit 0
}
make_venv || { skip "Python: $python cannot make a virtual environment"; exit 0; }
python_tool maturin "maturin>=1.14,<2" || { skip "Python: maturin cannot be installed"; exit 0; }

rm -rf "$target/wheels"
.venv/bin/maturin build --quiet --release --manifest-path bindings/python/Cargo.toml --out "$target/wheels"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall "$target"/wheels/*.whl
.venv/bin/python -c 'import libmq, sys; print(f"libmq for Python {sys.version.split()[0]} in .venv")'
