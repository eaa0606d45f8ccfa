//! Matrix tiles, AMX: whether the CPU has them and the system lets this process use them.
//!
//! The CPU says so (CPUID), the system says that it keeps their registers (XCR0), and on Linux a process must ask for the
//! 8 KB that every thread's state then takes (`arch_prctl`). Code uses them only where all of it holds.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether [`assume`] was called.
static ASSUMED: AtomicBool = AtomicBool::new(false);

/// Whether code may use tiles. The system is asked once.
pub(super) fn available() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    ASSUMED.load(Ordering::Relaxed)
        || *ANSWER.get_or_init(|| machine().is_some_and(Machine::has_tiles) && granted())
}

/// From now on, tiles count as available whatever CPU and system say: for tests that execute their instructions otherwise.
///
/// # Safety
/// Their instructions must be executed, by the CPU or by a handler of the signal that it sends.
#[doc(hidden)]
pub unsafe fn assume() {
    ASSUMED.store(true, Ordering::Relaxed);
}

/// What CPU and system say of tiles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Machine {
    /// CPUID leaf 7, EDX.
    features: u32,
    /// Which registers the system keeps.
    kept: u64,
    /// CPUID leaf 0x1d for palette 1: bytes of a row and number of tiles (EBX), rows (ECX).
    palette: [u32; 2],
}

impl Machine {
    /// Whether there are tiles of the size that code is made for, and products of bytes and of `bf16`.
    fn has_tiles(self) -> bool {
        /// AMX-BF16, AMX-TILE, AMX-INT8.
        const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
        /// The configuration and the data of tiles.
        const KEPT: u64 = 0b11 << 17;
        let [of_row, rows] = self.palette;
        self.features & FEATURES == FEATURES
            && self.kept & KEPT == KEPT
            && of_row & 0xffff >= 64
            && of_row >> 16 >= 8
            && rows & 0xffff >= 16
    }
}

#[cfg(target_arch = "x86_64")]
fn machine() -> Option<Machine> {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    /// CPUID leaf 1, ECX: the system uses XSAVE, so that XCR0 can be read.
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(0).eax < 0x1d || __cpuid(1).ecx & OSXSAVE == 0 {
        return None;
    }
    #[target_feature(enable = "xsave")]
    fn kept() -> u64 {
        // SAFETY: register 0 exists wherever the instruction does.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: the CPU has just said that it has the instruction and that the system has switched it on.
    let kept = unsafe { kept() };
    let palette = __cpuid_count(0x1d, 1);
    Some(Machine { features: __cpuid_count(7, 0).edx, kept, palette: [palette.ebx, palette.ecx] })
}

#[cfg(not(target_arch = "x86_64"))]
fn machine() -> Option<Machine> {
    None
}

/// Asks the system for the state of tiles; whether it grants that.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn granted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call reads and writes no memory of this process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn granted() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a Granite Rapids server says.
    const FULL: Machine =
        Machine { features: 0x1bfc_f5f2 | 1 << 22, kept: 0x6_02e7, palette: [0x0008_0040, 0x10] };

    #[test]
    fn tiles_need_all_of_it() {
        assert!(FULL.has_tiles());
        for bit in [22, 24, 25] {
            assert!(!Machine { features: FULL.features & !(1 << bit), ..FULL }.has_tiles(), "feature {bit}");
        }
        for bit in [17, 18] {
            assert!(!Machine { kept: FULL.kept & !(1 << bit), ..FULL }.has_tiles(), "state {bit}");
        }
        for palette in [[0, 0], [0x0008_0020, 0x10], [0x0004_0040, 0x10], [0x0008_0040, 8]] {
            assert!(!Machine { palette, ..FULL }.has_tiles(), "{palette:x?}");
        }
    }

    #[test]
    fn asking_twice_gives_one_answer() {
        assert_eq!(available(), available());
        if let Some(machine) = machine() {
            assert!(machine.has_tiles() || !available() || ASSUMED.load(Ordering::Relaxed));
        }
    }
}
