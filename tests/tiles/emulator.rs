//! The instructions of AMX on CPUs that do not have them: a handler of the signal that the CPU sends executes them.
//!
//! It follows the operations in the manual (Intel SDM, volume 2; "Intel AMX instruction set reference"). What the CPU would
//! refuse (a configuration or shapes that do not fit) ends the process with a message: a test failed.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};
use nestjit::machine::Isa;

const TILES: usize = 8;
const ROWS: usize = 16;
const ROW_BYTES: usize = 64;

/// The tiles of a thread.
struct State {
    configured: bool,
    /// The rows of each tile, and the bytes of its rows.
    rows: [usize; TILES],
    row_bytes: [usize; TILES],
    data: [[[u8; ROW_BYTES]; ROWS]; TILES],
    /// How many products of tiles there were.
    products: u64,
}

thread_local! {
    static STATE: RefCell<State> = const {
        RefCell::new(State {
            configured: false,
            rows: [0; TILES],
            row_bytes: [0; TILES],
            data: [[[0; ROW_BYTES]; ROWS]; TILES],
            products: 0,
        })
    };
}

/// Makes tiles available, by the CPU or by emulation; false if even the vector code around them cannot run here.
pub fn install() -> bool {
    static DONE: OnceLock<bool> = OnceLock::new();
    *DONE.get_or_init(|| {
        if !Isa::Avx512.host_has_vnni() {
            return false;
        }
        if Isa::Avx512.host_has_tiles() {
            return true;
        }
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all zeros are a valid `sigaction`; the handler has the signature that SA_SIGINFO asks for, does not unwind
        // and allocates nothing while it executes an instruction.
        let set = unsafe {
            let action = action.assume_init_mut();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGILL, action, std::ptr::null_mut())
        };
        assert_eq!(set, 0, "no handler");
        // SAFETY: the handler executes the instructions.
        unsafe { nestjit::machine::assume_tiles() };
        true
    })
}

/// How many products of tiles this thread has emulated.
pub fn products() -> u64 {
    STATE.with_borrow(|s| s.products)
}

/// Whether the instructions are emulated.
pub fn is_emulated() -> bool {
    !std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" amx_tile"))
}

fn fail(what: &str) -> ! {
    eprintln!("tile emulator: {what}");
    std::process::abort();
}

extern "C" fn handler(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the context of the thread that was interrupted, which nobody else has.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize] as u64;
    let mut code = [0u8; 15];
    for (i, byte) in code.iter_mut().enumerate() {
        // What is behind the last instruction of a page may not be readable; kernels end with a few instructions more.
        // SAFETY: the CPU has just read an instruction here, which is in a kernel that returns and has constants behind.
        *byte = unsafe { (at as *const u8).add(i).read() };
    }
    let instruction = Decoder::with_ip(64, &code, at, DecoderOptions::NONE).decode();
    STATE.with_borrow_mut(|state| state.execute(&instruction, registers));
    registers[libc::REG_RIP as usize] += instruction.len() as i64;
}

/// The value of an integer register.
fn value(registers: &[libc::greg_t; 23], register: Register) -> u64 {
    let index = match register {
        Register::None => return 0,
        Register::RAX => libc::REG_RAX,
        Register::RBX => libc::REG_RBX,
        Register::RCX => libc::REG_RCX,
        Register::RDX => libc::REG_RDX,
        Register::RSI => libc::REG_RSI,
        Register::RDI => libc::REG_RDI,
        Register::RBP => libc::REG_RBP,
        Register::RSP => libc::REG_RSP,
        Register::R8 => libc::REG_R8,
        Register::R9 => libc::REG_R9,
        Register::R10 => libc::REG_R10,
        Register::R11 => libc::REG_R11,
        Register::R12 => libc::REG_R12,
        Register::R13 => libc::REG_R13,
        Register::R14 => libc::REG_R14,
        Register::R15 => libc::REG_R15,
        _ => fail("an unknown register in an address"),
    };
    registers[index as usize] as u64
}

fn tile(instruction: &Instruction, operand: u32) -> usize {
    match instruction.op_kind(operand) {
        OpKind::Register => (instruction.op_register(operand) as usize).wrapping_sub(Register::TMM0 as usize),
        _ => fail("an operand that is no tile"),
    }
}

impl State {
    fn execute(&mut self, i: &Instruction, registers: &[libc::greg_t; 23]) {
        match i.code() {
            Code::VEX_Ldtilecfg_m512 => {
                let base =
                    if i.memory_base() == Register::RIP { 0 } else { value(registers, i.memory_base()) };
                let from = base.wrapping_add(i.memory_displacement64());
                let mut bytes = [0u8; 64];
                // SAFETY: as safe as the instruction itself, which reads these bytes.
                unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), 64) };
                self.configure(&bytes);
            }
            Code::VEX_Tilerelease => self.configured = false,
            Code::VEX_Tilezero_tmm => {
                let t = self.checked(tile(i, 0));
                self.data[t] = [[0; ROW_BYTES]; ROWS];
            }
            Code::VEX_Tileloadd_tmm_sibmem => {
                let t = self.checked(tile(i, 0));
                let (start, stride) = rows_of(i, registers);
                let mut new = [[0; ROW_BYTES]; ROWS];
                for (row, to) in new.iter_mut().enumerate().take(self.rows[t]) {
                    let from = start.wrapping_add((row as u64).wrapping_mul(stride)) as *const u8;
                    // SAFETY: as safe as the instruction itself, which reads these bytes.
                    unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), self.row_bytes[t]) };
                }
                self.data[t] = new;
            }
            Code::VEX_Tilestored_sibmem_tmm => {
                let t = self.checked(tile(i, 1));
                let (start, stride) = rows_of(i, registers);
                for (row, from) in self.data[t].iter().enumerate().take(self.rows[t]) {
                    let to = start.wrapping_add((row as u64).wrapping_mul(stride)) as *mut u8;
                    // SAFETY: as safe as the instruction itself, which writes these bytes.
                    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, self.row_bytes[t]) };
                }
            }
            Code::VEX_Tdpbusd_tmm_tmm_tmm => self.bytes(i, i32::from, |b| i32::from(b as i8)),
            Code::VEX_Tdpbsud_tmm_tmm_tmm => self.bytes(i, |a| i32::from(a as i8), i32::from),
            Code::VEX_Tdpbssd_tmm_tmm_tmm => self.bytes(i, |a| i32::from(a as i8), |b| i32::from(b as i8)),
            Code::VEX_Tdpbuud_tmm_tmm_tmm => self.bytes(i, i32::from, i32::from),
            Code::VEX_Tdpbf16ps_tmm_tmm_tmm => self.halves(i),
            _ => fail("an instruction that is not one of tiles"),
        }
    }

    fn configure(&mut self, bytes: &[u8; 64]) {
        if bytes[0] == 0 {
            self.configured = false;
            return;
        }
        if bytes[0] != 1 || bytes[1] != 0 || bytes[2..16].iter().any(|b| *b != 0) {
            fail("a palette, a start row or reserved bytes that there are not");
        }
        if bytes[32..48].iter().chain(&bytes[56..]).any(|b| *b != 0) {
            fail("shapes of tiles that there are not");
        }
        for t in 0..TILES {
            let row_bytes = usize::from(u16::from_le_bytes([bytes[16 + 2 * t], bytes[17 + 2 * t]]));
            let rows = usize::from(bytes[48 + t]);
            if row_bytes > ROW_BYTES || rows > ROWS || (row_bytes == 0) != (rows == 0) {
                fail("a shape that no tile has");
            }
            (self.rows[t], self.row_bytes[t]) = (rows, row_bytes);
        }
        self.configured = true;
        self.data = [[[0; ROW_BYTES]; ROWS]; TILES];
    }

    /// A tile that instructions may name.
    fn checked(&self, t: usize) -> usize {
        if !self.configured || t >= TILES || self.rows[t] == 0 {
            fail("a tile that is not configured");
        }
        t
    }

    /// The tiles of a product, whose shapes must fit: sums, the left factor, the right one.
    fn factors(&mut self, i: &Instruction) -> [usize; 3] {
        let [c, a, b] = [0, 1, 2].map(|operand| self.checked(tile(i, operand)));
        if c == a || c == b || a == b {
            fail("a product of tiles that are not different");
        }
        let fits = self.row_bytes[a].is_multiple_of(4)
            && self.row_bytes[b].is_multiple_of(4)
            && self.row_bytes[c].is_multiple_of(4)
            && self.row_bytes[a] / 4 == self.rows[b]
            && self.rows[c] == self.rows[a]
            && self.row_bytes[c] == self.row_bytes[b];
        if !fits {
            fail("a product of tiles whose shapes do not fit");
        }
        self.products += 1;
        [c, a, b]
    }

    fn bytes(&mut self, i: &Instruction, left: impl Fn(u8) -> i32, right: impl Fn(u8) -> i32) {
        let [c, a, b] = self.factors(i);
        for m in 0..self.rows[c] {
            for k in 0..self.row_bytes[a] / 4 {
                for n in 0..self.row_bytes[c] / 4 {
                    let at = 4 * n..4 * n + 4;
                    let sum = &mut self.data[c][m][at.clone()];
                    let mut value = i32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
                    let (x, y) = (self.data[a][m], self.data[b][k]);
                    for (x, y) in x[4 * k..4 * k + 4].iter().zip(&y[at.clone()]) {
                        value = value.wrapping_add(left(*x) * right(*y));
                    }
                    self.data[c][m][at].copy_from_slice(&value.to_le_bytes());
                }
            }
        }
        self.finish(c);
    }

    /// Sums of even and of odd products apart, then both and the old sum; denormal numbers are 0.
    fn halves(&mut self, i: &Instruction) {
        let flushed = |v: f32| if v.is_subnormal() { 0f32.copysign(v) } else { v };
        let half = |row: &[u8; ROW_BYTES], at: usize| {
            flushed(f32::from_bits(u32::from(u16::from_le_bytes([row[2 * at], row[2 * at + 1]])) << 16))
        };
        let [c, a, b] = self.factors(i);
        for m in 0..self.rows[c] {
            let mut parts = [[0f32; 2]; ROW_BYTES / 4];
            for k in 0..self.row_bytes[a] / 4 {
                for (n, part) in parts.iter_mut().enumerate().take(self.row_bytes[c] / 4) {
                    for (which, part) in part.iter_mut().enumerate() {
                        let (x, y) =
                            (half(&self.data[a][m], 2 * k + which), half(&self.data[b][k], 2 * n + which));
                        *part = flushed(x.mul_add(y, *part));
                    }
                }
            }
            for (n, part) in parts.iter().enumerate().take(self.row_bytes[c] / 4) {
                let sum = &mut self.data[c][m][4 * n..4 * n + 4];
                let old = flushed(f32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]));
                let new = flushed(old + flushed(part[0] + part[1]));
                sum.copy_from_slice(&new.to_le_bytes());
            }
        }
        self.finish(c);
    }

    /// What is outside of the shape of a result becomes 0.
    fn finish(&mut self, t: usize) {
        let (rows, row_bytes) = (self.rows[t], self.row_bytes[t]);
        for (m, row) in self.data[t].iter_mut().enumerate() {
            row[if m < rows { row_bytes } else { 0 }..].fill(0);
        }
    }
}

/// Where the first row of a tile is, and how far rows are apart.
fn rows_of(i: &Instruction, registers: &[libc::greg_t; 23]) -> (u64, u64) {
    let stride = value(registers, i.memory_index()).wrapping_mul(u64::from(i.memory_index_scale()));
    (value(registers, i.memory_base()).wrapping_add(i.memory_displacement64()), stride)
}
