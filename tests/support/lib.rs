//! What the tests, benchmarks and examples of the workspace share.
