//! The command `nestjit`.

fn main() {}
