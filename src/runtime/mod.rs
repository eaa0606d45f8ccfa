//! Running compiled models: memory, threads, time. What to run comes from code generation; how it came about
//! is none of this module's business.

mod context;
pub mod executable;
pub(crate) mod fork;
pub(crate) mod input;
pub mod measure;
pub(crate) mod output;
mod pack;
mod parts;
mod pool;
mod run;
mod run_options;
mod shared;
pub mod timing;
pub mod trace;
pub mod view;
mod workers;

pub use executable::{Executable, TensorSpec};
pub use input::{AsInput, Input};
pub use output::OutputBuffer;
pub use run_options::{CancelHandle, RunOptions};
pub use timing::CompileTimings;
pub use view::TensorView;
