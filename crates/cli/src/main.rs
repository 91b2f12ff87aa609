//! The binary `callgate`.

fn main() {}
