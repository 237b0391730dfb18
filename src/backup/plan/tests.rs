//! placeholder for tests
