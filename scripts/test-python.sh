#!/bin/sh
# The Python package: its own tests, the scenarios, kill rounds with handlers in Python, and its examples.
set -eu
. "$(dirname "$0")/lib.sh"

.venv/bin/python -c 'import libmq' 2>/dev/null || { skip "Python: the package is not built"; exit 0; }
python_tool pytest "pytest>=8" || { skip "Python: pytest cannot be installed"; exit 0; }

.venv/bin/python -m pytest bindings/python/tests
