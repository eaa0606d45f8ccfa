//! Products of bytes: dot products and their groups, convolutions, channels as lanes.

use nestjit::machine::Isa;
use nestjit_ir::visit::{walk_loops, walk_stmts};
use nestjit_ir::{LoopKind, Program, Stmt, Var};

use super::{Conv, everywhere, schedule};

/// A product of bytes, `unsigned` on the left or on the right, whose sums are made bytes again.
fn byte_gemm(
    (n, m, k): (usize, usize, usize),
    transposed: bool,
    weights: &str,
    unsigned_left: bool,
) -> String {
    let (shape, at) = if transposed { ([m, k], "m,k") } else { ([k, m], "k,m") };
    let (a, b) = if unsigned_left { ("u8", "i8") } else { ("i8", "u8") };
    format!(
        "nest @gemm(in %x: {a}[{n},{k}], {weights} %w: {b}[{},{}], const %s: f32[{m}], const %b: i32[{m}], out %y: u8[{n},{m}]) {{
          for n < {n} {{ for m < {m} {{
            temp %t: i32
            %t = 0i32
            for k < {k} {{ %t += i32(%x[n,k]) * i32(%w[{at}]) }}
            %y[n,m] = u8(min(max(round(f32(%t + %b[m]) * %s[m] * 0.01) + 128.0, 0.0), 255.0))
          }} }}
        }}",
        shape[0], shape[1]
    )
}

/// The groups of bytes that dot products add up, in the program's buffers.
fn groups(program: &Program) -> usize {
    program.buffers.iter().filter(|b| b.layout.interleave.is_some_and(|(_, n)| n == 4)).count()
}

#[test]
fn products_of_bytes_are_added_up_in_groups() {
    for (n, m, k) in [(1, 1, 1), (1, 17, 64), (3, 64, 17), (17, 3, 5), (64, 17, 3), (5, 33, 8), (7, 130, 30)]
    {
        for transposed in [false, true] {
            for unsigned_left in [false, true] {
                let text = byte_gemm((n, m, k), transposed, "const", unsigned_left);
                everywhere(&text);
                everywhere(&byte_gemm((n, m, k), transposed, "in", unsigned_left));
                let (program, _) = schedule(&text, Isa::Avx512, 1);
                assert_eq!(groups(&program), usize::from(m > 1 && k > 1), "{program}");
            }
        }
    }
    // Both signed, or both unsigned: no dot product.
    let text = byte_gemm((5, 33, 8), false, "const", true);
    for text in [text.replace("u8[5,8]", "i8[5,8]"), text.replace("i8[8,33]", "u8[8,33]")] {
        everywhere(&text);
        assert_eq!(groups(&schedule(&text, Isa::Avx512, 1).0), 0);
    }
}

#[test]
fn convolutions_of_bytes() {
    let bytes = |text: &str, zero: u8| {
        text.replace("%x: f32", "%x: u8")
            .replace("%w: f32", "%w: i8")
            .replace("%t: f32[]", "%t: i32")
            .replace("%t = 0.0", "%t = 0i32")
            .replace("%t += (%x", "%t += i32((%x")
            .replace("else 0.0)", &format!("else {zero}u8))"))
            .replace("%t += %x[", "%t += i32(%x[")
            .replace("] * %w", "]) * %w")
            .replace("%w[co,ci,kh,kw]", "i32(%w[co,ci,kh,kw])")
            .replace("%w[co,0,kh,kw]", "i32(%w[co,0,kh,kw])")
            .replace("max(%t + %b[co], 0.0)", "max(f32(%t) + %b[co], 0.0)")
    };
    for channels_last in [false, true] {
        for depthwise in [false, true] {
            for (kernel, stride, dilation, pad) in
                [(1, 1, 1, 0), (3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (7, 2, 1, 3)]
            {
                for (size, channels) in [((9, 13), (6, 5)), ((7, 8), (3, 17))] {
                    let channels = if depthwise { (channels.1, channels.1) } else { channels };
                    let conv =
                        Conv { size, channels, kernel, stride, dilation, pad, channels_last, depthwise };
                    let text = bytes(&conv.text(), 37);
                    everywhere(&text);
                    let (program, _) = schedule(&text, Isa::Avx512, 1);
                    if channels_last && !depthwise {
                        assert_eq!(groups(&program), 1, "{program}");
                    }
                }
            }
        }
    }
}

/// Channels that lie side by side are the lanes, also where a plane of each is computed before the convolution reads it:
/// the copies of it fit the second-level cache.
#[test]
fn planes_of_channels_that_lie_side_by_side() {
    let text = "nest @depthwise(in %x: f32[1,18,70,70] layout(0,2,3,1), const %w: i8[18,3,3], out %y: f32[1,18,68,68] layout(0,2,3,1)) {
      for c < 18 {
        temp %q: u8[70,70]
        for i < 70 { for j < 70 { %q[i,j] = u8(min(max(round(%x[0,c,i,j] / 0.01), 0.0), 255.0)) } }
        for h < 68 { for w < 68 {
          temp %t: i32
          %t = 0i32
          for kh < 3 { for kw < 3 { %t += i32(%q[h+kh,w+kw]) * i32(%w[c,kh,kw]) } }
          %y[0,c,h,w] = f32(%t) * 0.01
        } }
      }
    }";
    let (program, _) = schedule(text, Isa::Avx512, 1);
    let lanes: Vec<Var> = vector_loops(&program);
    let mut stores = 0;
    walk_stmts(&program.nests[0].body, &mut |s| {
        if let Stmt::Store(s) = s
            && program.buf(s.buf).name == "y"
        {
            stores += 1;
            let channel = s.index[1].as_affine().expect("an affine index");
            assert!(lanes.iter().any(|v| channel.uses(*v)), "{program}");
        }
    });
    assert!(stores > 0, "{program}");
    schedule(text, Isa::Avx2, 1);
}

fn vector_loops(program: &Program) -> Vec<Var> {
    let mut found = Vec::new();
    walk_loops(&program.nests[0].body, &mut |l| {
        if l.kind == LoopKind::Vector {
            found.push(l.var);
        }
    });
    found
}
