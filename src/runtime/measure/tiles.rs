//! The rate at which matrix tiles (AMX) multiply bytes.

/// Billions of operations per second of one core on bytes in matrix tiles, two per product that is added to a sum of 32 bits; `None`
/// where there are no tiles. The best of a few short runs.
pub fn tile_gops() -> Option<f64> {
    if !crate::machine::Isa::Avx512.host_has_tiles() {
        return None;
    }
    #[cfg(target_arch = "x86_64")]
    {
        let operations = (x86::STEPS * x86::OPERATIONS) as f64;
        let run = || operations / super::best_seconds(|| x86::products(x86::STEPS)) / 1e9;
        Some((0..super::ROUNDS).map(|_| run()).fold(0.0, f64::max))
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    /// Steps between two looks at the clock.
    pub const STEPS: usize = 2_000;

    /// Operations of a step: four products of full tiles.
    pub const OPERATIONS: usize = 4 * 2 * 16 * 16 * 64;

    /// As the instruction reads it: palette 1, the bytes of rows from byte 16 on, the rows from byte 48 on.
    #[repr(C, align(64))]
    struct Configuration([u8; 64]);

    /// So many steps of two by two sums, all in tiles.
    pub fn products(steps: usize) {
        let mut full = Configuration([0; 64]);
        full.0[0] = 1;
        for tile in 0..8 {
            (full.0[16 + 2 * tile], full.0[48 + tile]) = (64, 16);
        }
        // SAFETY: the only caller has asked for tiles. The configuration is read, no other memory is accessed, and all tiles
        // are given up at the end.
        unsafe {
            asm!(
                "ldtilecfg [{full}]",
                "2:",
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbusd tmm1, tmm4, tmm7",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbusd tmm3, tmm5, tmm7",
                "sub {steps}, 1",
                "jnz 2b",
                "tilerelease",
                full = in(reg) &full,
                steps = inout(reg) steps.max(1) => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
