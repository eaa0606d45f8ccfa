//! Running compiled models: memory, threads, time. What to run comes from code generation; how it came about
//! is none of this module's business.

pub mod arena;
pub mod machine;
pub mod pool;
