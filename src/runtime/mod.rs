//! Running compiled models: memory, threads, time. What to run comes from code generation; how it came about
//! is none of this module's business.

mod context;
pub mod executable;
pub mod machine;
mod pack;
pub mod pool;
pub mod timing;
pub mod trace;
pub mod view;

pub use executable::{Executable, TensorSpec};
pub use timing::CompileTimings;
pub use view::TensorView;
