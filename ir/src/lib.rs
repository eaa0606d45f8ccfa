//! `nestjit-ir`: the loop-nest IR.
//!
//! A [`Program`] is a list of buffers and a list of nests; a [`Nest`] is a tree of `for` loops over stores and
//! reductions whose indices are affine in the loop variables. This crate says what such a program *is*: how it
//! is [built](build), [printed](mod@print) and [parsed](parse), what makes it [well-formed](verify), what it
//! [means](interp), which transformations its [dependences](access) allow, and where its elements
//! [lie](layout). It knows nothing of models, passes or machine code.
//!
//! Enumerations are exhaustive on purpose: whoever matches on element types or operations decides for each of them.
//!
//! ```
//! use nestjit_ir::{Program, verify::{Stage, verify}};
//!
//! let text = r#"nest @dense0(in %x: f32[64,512], const %w: f32[512,512], const %b: f32[512], out %y: f32[64,512]) ops("Gemm", "Relu") {
//!   for n < 64 parallel {
//!     for m < 512 {
//!       temp %t: f32
//!       %t = 0.0
//!       for k < 512 {
//!         %t += %x[n,k] * %w[k,m]
//!       }
//!       %y[n,m] = max(%t + %b[m], 0.0)
//!     }
//!   }
//! }
//! "#;
//! let program: Program = text.parse()?;
//! assert!(verify(&program, Stage::Lowered).is_empty());
//! assert_eq!(program.to_string(), text);
//! # Ok::<(), nestjit_ir::parse::ParseError>(())
//! ```
//!
//! # The textual form
//!
//! Space and line breaks only separate; `//` begins a comment. A name after `%` (buffers) or `@` (nests) is
//! made of letters, digits, `_`, `.` and `$`, or is a string.
//!
//! ```text
//! program  = { "buffer" role decl | nest }       "buffer": for what no nest touches, or what comes first; inputs and
//!                                                outputs are given and returned in the order in which they are named
//! nest     = "nest" @name "(" [ role decl { "," role decl } ] ")" [ "ops" "(" string { "," string } ")" ] block
//! role     = "in" | "out" | "const" | "temp"
//! decl     = %name ":" type [ "[" int { "," int } "]" ] [ "layout" "(" int { "," int } ")" ]
//!            [ "panel" "(" dim "," block ")" ] [ "interleave" "(" dim "," group ")" ]
//!            [ "halo" "(" before ":" after { "," before ":" after } "=" literal ")" ]
//! type     = "f32" | "f64" | "f16" | "bf16" | "i64" | "i32" | "i16" | "i8" | "u64" | "u32" | "u16" | "u8" | "bool"
//! block    = "{" { stmt } "}"
//! stmt     = "for" var "<" int [ [ "in" int ] "parallel" | "vector" | "unrolled" ] block
//!          | "temp" decl                                   a local, for the rest of the block
//!          | access ( "=" | "+=" | "*=" | "max=" | "min=" ) expr
//!          | "call" name "(" [ %name { "," %name } ] ")" "->" "(" ... ")" [ "attrs" "(" int { "," int } ")" ]
//! access   = %name [ "[" index { "," index } "]" ]
//! index    = affine | "(" expr ")"                         computed at run time
//! affine   = 2*i + j - 1                                   over loop variables in scope
//! expr     = expr infix expr | primary
//! infix    = "|"  then  "^"  then  "&"  then  "==" "!=" "<" "<=" ">" ">="  then  "<<" ">>"
//!            then  "+" "-"  then  "*" "/"                   from weak to strong; left to right
//! primary  = literal | access | "-" primary | "(" expr ")"
//!          | "(" access "else" expr ")"                    what a load yields outside the buffer
//!          | "idx" "(" affine ")"                          the value of an index, as i64
//!          | "select" "(" expr "," expr "," expr ")"       condition, then, otherwise
//!          | type "(" expr ")"                             conversion
//!          | unary "(" expr ")"                            exp, tanh, not, ...: see UnOp
//!          | binary "(" expr "," expr ")"                  max, min, pow, rem, mod, atan2
//!          | "check" "(" expr "," low "," high "," kind "," string "," string "," string ")"
//!                                                          kind: index, index_from_end, length, position,
//!                                                          category; then the model's node, its operator, its input
//! literal  = 0.5  1e-7  -inf  nan  (f32)   0.5f64  inf_f64  0.5f16  3i64  -1i32  7i8  255u8  true  false
//!          | bits_f32(0x7fc00001)                          a NaN with its payload
//! ```

pub mod access;
pub mod affine;
pub mod build;
pub mod canon;
pub mod check;
pub mod excerpt;
pub mod expr;
pub mod halves;
pub mod hash;
pub mod interp;
pub mod layout;
mod names;
pub mod nest;
pub mod ops;
pub mod parse;
pub mod print;
pub mod types;
pub mod verify;
pub mod visit;

pub use affine::{Affine, Var};
pub use build::NestBuilder;
pub use check::*;
pub use expr::{SCALAR, indices};
pub use half::{bf16, f16};
pub use nest::*;
pub use ops::{BinOp, ReduceOp, UnOp};
pub use types::{DType, Kind, Scalar};
