//! The machine that code is made for: what it can execute, its caches and cores, and what things take on it.
//!
//! [`MachineModel`] holds all figures that passes, code generation and reports depend on: of the host (`detect` asks CPU and
//! system), of a machine of the `table`, or of a file. Passes see the machine only through it, and none of them reads a
//! CPU's name; which instructions exist is code generation's knowledge. Measuring is left to `runtime`.

mod amx;
mod detect;
mod file;
mod isa;
mod model;
mod table;

#[doc(hidden)]
pub use amx::assume as assume_tiles;
pub use isa::Isa;
pub use model::{Cache, MachineModel, Memory};
pub use table::{KNOWN, Known};
