//! Nests as text: damaged, and tried. What the verifier accepts is compiled and must compute what the interpreter does.

use std::path::Path;

use nestjit::interpret::interpret_from;
use nestjit::ir::interp::{Mode, Undefined};
use nestjit::ir::parse::parse;
use nestjit::ir::verify::Stage;
use nestjit::ir::visit::walk_exprs;
use nestjit::ir::{Program, Role, Stmt};
use nestjit::unit::Unit;
use nestjit::{Compiler, DType, Error, ErrorKind, Options, Tensor, passes};

use super::harness::{Outcome, without_panic};
use super::mutate::Random;

/// The elements of all buffers of a program that is run, and its executed operations: more is legitimate, but slow.
const ELEMENTS: usize = 1 << 16;
const WORK: usize = 1 << 18;

/// The programs to be damaged, with names: those of the golden tests before the pass, and a few that use what these do not.
pub fn seeds() -> Vec<(String, String)> {
    let own = OWN.iter().enumerate().map(|(i, text)| (format!("own {i}"), (*text).to_owned()));
    let mut seeds: Vec<_> = own.collect();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests"), "", &mut seeds);
    seeds
}

const OWN: [&str; 4] = [
    "nest @gather(in %x: f32[6,8] , in %i: i64[5], out %y: f32[5,8]) {
       for n < 5 { for k < 8 vector { %y[n,k] = (%x[(%i[n]),k] else -1.0) + %x[(max(min(%i[n], 5i64), 0i64)),7-k] } } }",
    "nest @rows(const %w: f32[16,12] layout(1,0) panel(1,4), in %x: f32[4,16], out %y: f32[4,12]) {
       for n < 4 parallel { for m < 12 {
         temp %t: f32
         %t = 0.0
         for k < 16 unrolled { %t += %x[n,k] * %w[k,m] }
         %y[n,m] = max(%t, 0.0)
       } } }",
    "nest @window(in %x: f32[2,9,10], temp %p: f32[2,9,10] layout(1,0,2), out %y: f32[2,9,10]) {
       for c < 2 { for i < 9 { for j < 10 { %p[c,i,j] = (%x[c,i-1,2*j-3] else 0.5) } } }
       for c < 2 { for i < 9 { for j < 10 { %y[c,i,j] = (%p[c,i+1,j-1] else 0.0) * tanh(%p[c,8-i,j]) } } } }",
    "nest @integers(in %a: i32[3,7], in %m: bool[7], out %s: i64[3], out %c: u8[7]) {
       for i < 3 {
         %s[i] = -5i64
         for j < 7 { %s[i] max= select(%m[j], i64(%a[i,j]) * idx(2*j-i), idx(j)) }
       }
       for j < 7 { %c[j] = u8(%a[2,6-j] << 1i32) + 3u8 } }",
];

fn files(dir: &Path, name: &str, seeds: &mut Vec<(String, String)>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = format!("{name}/{}", path.file_name().unwrap_or_default().display());
        if path.is_dir() {
            files(&path, &name, seeds);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            seeds.extend(text.split("// ---\n").next().map(|program| (name, program.to_owned())));
        }
    }
}

/// The text cut into words, numbers and single characters.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let end = if word(first) || matches!(first, '%' | '@') {
            rest[first.len_utf8()..].find(|c| !word(c)).map_or(rest.len(), |n| n + first.len_utf8())
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..end]);
        rest = &rest[end..];
    }
    tokens
}

/// Some tokens of a program replaced, exchanged, left out or repeated, with a liking for what stays a program.
pub fn damage(text: &str, random: &mut Random) -> String {
    const NUMBERS: [&str; 26] = [
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "7",
        "8",
        "9",
        "15",
        "16",
        "17",
        "33",
        "64",
        "-1",
        "16777216",
        "268435456",
        "2147483648",
        "4294967297",
        "1099511627776",
        "4503599627370496",
        "4611686018427387904",
        "9223372036854775807",
        "18446744073709551615",
        "0.0",
        "1.0",
    ];
    const WORDS: [&str; 34] = [
        "parallel",
        "vector",
        "unrolled",
        "f32",
        "f64",
        "i64",
        "i32",
        "i8",
        "u8",
        "u16",
        "bool",
        "exp",
        "tanh",
        "neg",
        "abs",
        "not",
        "floor",
        "sqrt",
        "max",
        "min",
        "pow",
        "rem",
        "mod",
        "idx",
        "select",
        "in",
        "out",
        "temp",
        "const",
        "copy",
        "else",
        "layout(1,0)",
        "panel(0,3)",
        "halo(1:2 = 0.0)",
    ];
    const SIGNS: [&str; 12] = ["+", "-", "*", "/", "<", "&", "==", "<<", "{", "}", "(", ")"];
    let mut tokens: Vec<String> = tokens(text).into_iter().map(str::to_owned).collect();
    for _ in 0..1 + random.below(4) {
        let solid: Vec<usize> = (0..tokens.len()).filter(|&i| !tokens[i].trim().is_empty()).collect();
        if solid.is_empty() {
            break;
        }
        let at = solid[random.below(solid.len())];
        let same_kind = |t: &str| -> fn(&str) -> bool {
            match t.chars().next() {
                Some('%') => |t| t.starts_with('%'),
                Some(c) if c.is_ascii_digit() => |t| t.starts_with(|c: char| c.is_ascii_digit()),
                Some(c) if c.is_alphabetic() => |t| t.starts_with(char::is_alphabetic),
                _ => |t| !t.starts_with(char::is_alphanumeric) && !t.starts_with('%') && !t.trim().is_empty(),
            }
        };
        let kind = same_kind(&tokens[at]);
        match random.below(12) {
            // Another token of its kind from elsewhere.
            0..=4 => {
                let others: Vec<usize> = solid.iter().copied().filter(|&i| kind(&tokens[i])).collect();
                tokens[at] = tokens[others[random.below(others.len())]].clone();
            }
            5..=7 => {
                let numbers: Vec<usize> = solid
                    .iter()
                    .copied()
                    .filter(|&i| tokens[i].starts_with(|c: char| c.is_ascii_digit()))
                    .collect();
                if !numbers.is_empty() {
                    tokens[numbers[random.below(numbers.len())]] =
                        NUMBERS[random.below(NUMBERS.len())].to_owned();
                }
            }
            8 => tokens[at] = WORDS[random.below(WORDS.len())].to_owned(),
            9 => tokens[at] = SIGNS[random.below(SIGNS.len())].to_owned(),
            10 => drop(tokens.remove(at)),
            _ => {
                let end = tokens.len().min(at + 1 + random.below(24));
                let copy = tokens[at..end].to_vec();
                let to = solid[random.below(solid.len())];
                tokens.splice(to..to, copy);
            }
        }
    }
    tokens.concat()
}

/// Reads, verifies, interprets, compiles and runs a program. `Err` is a defect of nestjit.
pub fn attempt(text: &str) -> Result<Outcome, String> {
    match without_panic(|| explore(text))? {
        Ok(outcome) => Ok(outcome),
        Err(e) if e.kind() == ErrorKind::Internal => Err(e.to_string()),
        Err(_) => Ok(Outcome::Refused),
    }
}

fn explore(text: &str) -> Result<Outcome, Error> {
    let program = parse(text).map_err(|e| Error::invalid(e.to_string()))?;
    let again = parse(&program.to_string());
    if again.as_ref() != Ok(&program) {
        return Err(Error::internal(format!("printed and read back it is {again:?}")));
    }
    // A program that has not been verified may be anything, but it must not be run into a panic.
    if !nestjit::ir::verify::verify(&program, Stage::Scheduled).is_empty() {
        return Ok(Outcome::Refused);
    }
    let elements: usize = program.buffers.iter().map(|b| b.storage_bytes()).fold(0, usize::saturating_add);
    let work = program.nests.iter().map(|n| work(&n.body)).fold(0, usize::saturating_add);
    if elements > 4 * ELEMENTS || work > WORK {
        return Ok(Outcome::Imported);
    }
    let unit = unit(program)?;
    passes::verify(&unit, Stage::Scheduled)?;
    let inputs: Vec<Tensor> =
        unit.inputs.iter().map(|b| data(&unit.program, b.0)).collect::<Result<_, _>>()?;
    let interpreted = |mode, undefined| interpret_from(&unit, &inputs, mode, undefined);
    let marked = interpreted(Mode::Exact, Undefined::Marked);
    let other = interpreted(Mode::Exact, Undefined::Other);
    let precise = interpreted(Mode::F64, Undefined::Marked);
    let disabled: [&[&str]; 2] = [&[], &["OpFusion", "Tile", "Vectorize"]];
    for (threads, passes) in [2, 1].into_iter().zip(disabled) {
        let options = Options { verify_passes: true, ..Options::default() };
        let compiler = Compiler::with_options(options).threads(threads).disable_passes(passes);
        let found = compiler.compile_unit("damaged", unit.clone()).and_then(|code| code.run(&inputs));
        match (&marked, &other, &precise, found) {
            (Ok(marked), Ok(other), Ok(precise), Ok(found)) => {
                for (i, found) in found.iter().enumerate() {
                    same(&marked[i], &other[i], &precise[i], found)?;
                }
            }
            (_, _, _, Err(e)) if e.kind() == ErrorKind::Internal || e.kind() == ErrorKind::Invalid => {
                return Err(Error::internal(format!("verified, but: {e}")));
            }
            // An index that was computed from rounded values, or from what is undefined.
            (Ok(_), Ok(_), Err(_), _) | (Ok(_), Err(_), _, _) | (Err(_), Ok(_), _, _) => {}
            (Err(_), Err(_), _, Err(_)) => {}
            (Ok(_), _, _, Err(e)) => return Err(Error::internal(format!("only compiled code fails: {e}"))),
            (Err(e), _, _, Ok(_)) => return Err(Error::internal(format!("only the interpreter fails: {e}"))),
        }
    }
    Ok(Outcome::Ran)
}

/// Operations that are executed.
fn work(body: &[Stmt]) -> usize {
    let of = |s: &Stmt| match s {
        Stmt::For(l) => l.extent.saturating_mul(work(&l.body).saturating_add(1)),
        Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Temp(_) | Stmt::Call(_) => {
            let mut operations = 1;
            walk_exprs(std::slice::from_ref(s), &mut |_| operations += 1);
            operations
        }
    };
    body.iter().map(of).fold(0, usize::saturating_add)
}

fn unit(program: Program) -> Result<Unit, Error> {
    let consts = program.buf_ids().filter(|b| program.buf(*b).role == Role::Const);
    let consts = consts
        .map(|b| Ok((program.buf(b).name.clone(), data(&program, b.0)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    Unit::from_program(program, consts.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())))
}

/// Small integers are indices that are sometimes wrong.
fn data(program: &Program, buffer: u32) -> Result<Tensor, Error> {
    let b = &program.buffers[buffer as usize];
    if b.dtype == DType::I64 {
        return Tensor::new(&b.shape, &(0..b.len()).map(|i| (i * 5 % 7) as i64 - 1).collect::<Vec<_>>());
    }
    Tensor::random(b.dtype, &b.shape, u64::from(buffer) + 1)
}

/// Whether compiled code computes what the interpreter does, wherever the program defines it. How far rounding may
/// bring them apart is what it brings the interpreter away from a more precise run.
fn same(marked: &Tensor, other: &Tensor, precise: &Tensor, found: &Tensor) -> Result<(), Error> {
    let [m, o, p, f] = [marked, other, precise, found].map(super::common::compare::to_f64);
    for (i, (((m, o), p), f)) in m.iter().zip(&o).zip(&p).zip(&f).enumerate() {
        let defined = m == o || (m.is_nan() && o.is_nan() && p.is_nan());
        let close = |a: &f64, b: &f64, slack: f64| {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= slack * (1.0 + a.abs())
        };
        let decided_by_rounding = !close(m, p, 1e-2);
        let slack = if marked.dtype().is_float() { 1e-3 + 100.0 * (m - p).abs() } else { 0.0 };
        let slack = if slack.is_nan() { 0.0 } else { slack };
        if defined && !decided_by_rounding && !close(m, f, slack) {
            let all = format!("element {i} is {f:e}, but {m:e} is right ({p:e} without rounding)");
            return Err(Error::internal(all));
        }
    }
    Ok(())
}
