//! What excerpts and keys are, and that placing what was done to one is what would have been done elsewhere.

use super::*;
use crate::visit::fresh_copy;
use crate::{Affine, DType, NestBuilder, ReduceOp, SCALAR};

/// `y[i] = c * sum over k of x[i,k]`, with names and numbers of its own.
fn sums(p: &mut Program, name: &str, n: usize, c: f32) -> usize {
    let x = p.add_buffer(Buffer::new(format!("x.{name}"), DType::F32, &[n, 8], Role::In));
    let y = p.add_buffer(Buffer::new(format!("y {name}"), DType::F32, &[n], Role::Out));
    let mut b = NestBuilder::new(p, name);
    b.for_(&format!("i{name}"), n, |b, i| {
        let t = b.temp("t", DType::F32, &[]);
        b.store(t, SCALAR, Expr::f32(0.0));
        b.for_("k", 8, |b, k| b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [i, k])));
        b.store(y, [i], Expr::load(t, SCALAR) * Expr::f32(c));
    });
    b.finish()
}

fn key(p: &Program, nest: usize, detail: Detail) -> Key {
    let body = p.nests[nest].body.as_slice();
    Uses::of(&[body]).key(p, &[body], detail)
}

#[test]
fn names_do_not_matter_but_extents_constants_and_roles_do() {
    let mut p = Program::default();
    let nests = [("a", 4, 2.0), ("b", 4, 2.0), ("c", 5, 2.0), ("d", 4, 3.0), ("e", 4, 2.0)];
    let nests = nests.map(|(name, n, c)| sums(&mut p, name, n, c));
    let role = p.buffers.iter().position(|b| b.name == "x.e").unwrap();
    p.buffers[role].role = Role::Const;
    let equal = |detail| nests.map(|n| key(&p, n, detail) == key(&p, nests[0], detail));
    assert_eq!(equal(Detail::Schedule), [true, true, false, false, false]);
    assert_eq!(equal(Detail::Code), [true, true, false, false, true]);
}

#[test]
fn everything_else_about_statements_and_buffers_counts() {
    let nest = |statement: &str| {
        let text = format!(
            "nest @f(in %x: f32[6,4], in %n: i64[4], out %y: f32[4]) {{ for i < 4 {{ {statement} }} }}"
        );
        text.parse::<Program>().unwrap_or_else(|e| panic!("{e}\n{text}"))
    };
    let mut programs: Vec<Program> = [
        "%y[i] = (%x[i,0] else 1.0)",
        "%y[i] = (%x[i,0] else 2.0)",
        "%y[i] = (%x[i + 1,0] else 1.0)",
        "%y[i] = (%x[2*i,0] else 1.0)",
        "%y[i] = (%x[0,i] else 1.0)",
        "%y[i] = %x[i,0]",
        "%y[i] = -%x[i,0]",
        "%y[i] = exp(%x[i,0])",
        "%y[i] += (%x[i,0] else 1.0)",
        "%y[i] max= (%x[i,0] else 1.0)",
        "%y[i] = (%x[(%n[i]),0] else 1.0)",
        "%y[i] = f32(idx(i))",
        "%y[i] = f32(f64(%x[i,0]))",
        "%y[i] = f32(check(%n[i], 0, 4, index, \"a\", \"b\", \"c\"))",
        "%y[i] = f32(check(%n[i], 0, 5, index, \"a\", \"b\", \"c\"))",
    ]
    .map(nest)
    .into();
    let of_buffer = |f: &dyn Fn(&mut Buffer)| {
        let mut p = nest("%y[i] = (%x[i,0] else 1.0)");
        p.buffers.iter_mut().filter(|b| b.name == "x").for_each(f);
        p
    };
    programs.push(of_buffer(&|b| b.layout.order = vec![1, 0]));
    programs.push(of_buffer(&|b| b.layout.panel = Some((1, 2))));
    programs.push(of_buffer(&|b| b.halo = vec![(1, 1), (0, 0)]));
    programs.push(of_buffer(&|b| b.shape = vec![7, 4]));
    programs.push(of_buffer(&|b| b.dtype = DType::F16));
    let keys: std::collections::HashSet<Key> = programs.iter().map(|p| key(p, 0, Detail::Code)).collect();
    assert_eq!(keys.len(), programs.len());
}

#[test]
fn numbers_in_another_order_are_another_key() {
    let mut p = Program::default();
    let [a, b] = ["a", "b"].map(|n| p.add_buffer(Buffer::new(n, DType::F32, &[4], Role::In)));
    let y = p.add_buffer(Buffer::new("y", DType::F32, &[4], Role::Out));
    for (first, second) in [(a, b), (b, a)] {
        let mut nest = NestBuilder::new(&mut p, "f");
        nest.for_("i", 4, |n, i| n.store(y, [i], Expr::load(first, [i]) - Expr::load(second, [i])));
        nest.finish();
    }
    assert_ne!(key(&p, 0, Detail::Schedule), key(&p, 1, Detail::Schedule));
}

/// Something that a pass could do: a copy of the loop is put behind it, which adds to a row instead of a scalar.
fn rewrite(program: &mut Program, body: &mut Vec<Stmt>) -> String {
    let copy = fresh_copy(program, body);
    let [Stmt::For(l)] = body.as_mut_slice() else { panic!("a loop") };
    let Stmt::Temp(t) = l.body[0] else { panic!("a local") };
    program.buf_mut(t).shape = vec![2];
    program.buf_mut(t).layout = crate::Layout::row_major(1);
    let at = Affine::constant(1);
    crate::visit::walk_stmts_mut(&mut l.body, &mut |s| match s {
        Stmt::Store(s) if s.buf == t => s.index = vec![at.clone().into()],
        Stmt::Reduce(r) if r.buf == t => r.index = vec![at.clone().into()],
        _ => {}
    });
    crate::visit::map_loads(&mut l.body, &mut |load| (load.buf == t).then(|| Expr::load(t, [at.clone()])));
    let name = program.unique_buffer_name(&format!("{}.more", program.buf(t).name));
    let more = program.add_buffer(Buffer::new(name, DType::F32, &[2], Role::Local));
    l.body.insert(0, Stmt::Temp(more));
    let var = program.var_name(l.var).to_owned();
    let outer = program.add_var(format!("{var}o"));
    let Stmt::Store(store) = l.body.last().unwrap() else { panic!("a store") };
    let text =
        format!("{} over {var}: {}", program.buf(more).name, program.show_access(store.buf, &store.index));
    body.extend(copy);
    let inner = std::mem::take(body);
    body.push(Stmt::For(crate::For { var: outer, extent: 3, kind: crate::LoopKind::Serial, body: inner }));
    text
}

#[test]
fn placing_is_what_rewriting_each_would_have_been() {
    let mut direct = Program::default();
    for name in ["a", "b", "odd name"] {
        sums(&mut direct, name, 4, 2.0);
    }
    let mut placed = direct.clone();
    let texts: Vec<String> = (0..3)
        .map(|n| {
            let mut body = std::mem::take(&mut direct.nests[n].body);
            let text = rewrite(&mut direct, &mut body);
            direct.nests[n].body = body;
            text
        })
        .collect();

    let uses: Vec<Uses> = placed.nests.iter().map(|n| Uses::of(&[&n.body])).collect();
    let mut excerpt = Excerpt::of(&placed, uses[1].clone());
    let mut body = placed.nests[1].body.clone();
    excerpt.number(&mut body);
    let text = rewrite(&mut excerpt.program, &mut body);
    for n in 0..3 {
        let placement = excerpt.place(&mut placed, &uses[n]);
        let mut body = body.clone();
        placement.statements(&mut body);
        placed.nests[n].body = body;
        assert_eq!(placement.text(&placed, &text, "f"), texts[n]);
    }
    assert_eq!(texts[2], "t_2.more over iodd name: %\"y odd name\"[iodd name]");
    assert_eq!(placed, direct);
}

#[test]
fn what_looks_like_a_placeholder_is_left_alone() {
    let mut p = Program::default();
    let hostile = format!("{0}b0{1}{0}b7{1}{0}v{1}{0}", MARKS.0, MARKS.1);
    let x = p.add_buffer(Buffer::new(hostile.clone(), DType::F32, &[], Role::In));
    let mut b = NestBuilder::new(&mut p, "f");
    b.store(x, SCALAR, Expr::f32(0.0));
    b.finish();
    let uses = Uses::of(&[&p.nests[0].body]);
    let excerpt = Excerpt::of(&p, uses.clone());
    let placement = excerpt.place(&mut p, &uses);
    let text = format!("{} in {}", excerpt.program.buf(BufId(0)).name, Excerpt::NEST);
    assert_eq!(placement.text(&p, &text, "g"), format!("{hostile} in g"));
    let broken = format!("{}b1{} {}", MARKS.0, MARKS.1, MARKS.0);
    assert_eq!(placement.text(&p, &broken, "g"), broken);
    // In a program, it is a name like others.
    assert_eq!(p.show_buffer(p.buf(x)).to_string(), format!("%\"{hostile}\": f32"));
}

/// One function would compute the wrong thing for one of the two.
#[test]
fn whatever_changes_the_code_changes_the_key() {
    let text = "nest @a(in %x: f32[4,6], in %i: i64[4], const %w: f32[4,6], out %y: f32[4], out %z: f32[4]) {
        for n < 4 {
          temp %t: f32[6]
          for k < 6 { %t[k] = (%x[n,k-1] else 0.5) * %w[n,k] }
          %y[n] = -1.0
          for k < 6 { %y[n] += %t[5-k] }
          %z[n] = select(%y[n] > 0.0, exp(%x[n,2]), %w[(%i[n]),0] + f32(idx(3*n)))
        }
      }";
    let of = |text: &str| {
        let program = text.parse::<Program>().unwrap_or_else(|e| panic!("{e}\n{text}"));
        key(&program, 0, Detail::Code)
    };
    let known = of(text);
    assert_eq!(known, of(&text.replace("%x", "%input").replace("@a", "@b")));
    for (from, to) in [
        // Where elements lie, and what lies around them.
        ("%w: f32[4,6]", "%w: f32[4,6] layout(1,0)"),
        ("%w: f32[4,6]", "%w: f32[4,6] panel(1,2)"),
        ("%w: f32[4,6]", "%w: f32[4,6] halo(1:1,0:0 = 0.0)"),
        ("%w: f32[4,6]", "%w: f32[4,7]"),
        ("%t: f32[6]", "%t: f32[7]"),
        // Indices.
        ("%x[n,k-1]", "%x[n,k+1]"),
        ("%x[n,k-1]", "%x[n,2*k-1]"),
        ("%x[n,k-1]", "%x[n,n-1]"),
        ("%x[n,2]", "%x[n,3]"),
        ("%x[n,2]", "%w[n,2]"),
        ("%t[5-k]", "%t[k]"),
        ("(%i[n])", "(%i[3-n])"),
        ("idx(3*n)", "idx(2*n)"),
        // Outside of a buffer.
        ("else 0.5", "else 0.25"),
        ("else 0.5", "else -0.5"),
        ("(%x[n,k-1] else 0.5)", "%x[n,k]"),
        // What is computed.
        ("%y[n] += ", "%y[n] max= "),
        ("%y[n] += ", "%y[n] = "),
        ("%y[n] = -1.0", "%y[n] = -2.0"),
        (" * %w", " + %w"),
        ("exp(", "tanh("),
        ("> 0.0", ">= 0.0"),
        // Loops.
        ("for k < 6 { %t", "for k < 5 { %t"),
        ("for k < 6 { %t", "for k < 6 vector { %t"),
        ("for n < 4 {", "for n < 4 parallel {"),
    ] {
        assert!(text.contains(from), "{from}");
        assert_ne!(known, of(&text.replacen(from, to, 1)), "{from} and {to}");
    }
}

/// Nests that read and write some of a few buffers each.
fn sharing() -> Program {
    let mut p = Program::default();
    let bufs = [0; 5].map(|_| p.add_buffer(Buffer::new("x", DType::F32, &[4], Role::Temp)));
    for [a, b, c] in [[0, 1, 2], [2, 1, 3], [2, 3, 4], [0, 2, 3], [1, 2, 3], [3, 1, 2], [4, 0, 1]] {
        let mut nest = NestBuilder::new(&mut p, "f");
        nest.for_("i", 4, |n, i| n.store(bufs[c], [i], Expr::load(bufs[a], [i]) - Expr::load(bufs[b], [i])));
        nest.finish();
    }
    // One that shares its variable with another.
    let mut merged = p.nests[0].clone();
    crate::visit::replace_buf(&mut merged.body, bufs[0], bufs[3]);
    p.nests.push(merged);
    p
}

#[test]
fn two_keys_and_what_is_common_say_what_the_key_of_both_says() {
    let p = sharing();
    let body = |n: usize| p.nests[n].body.as_slice();
    let all = 0..p.nests.len();
    let pairs: Vec<(usize, usize)> = all.clone().flat_map(|a| all.clone().map(move |b| (a, b))).collect();
    let apart = |&(a, b): &(usize, usize)| {
        let mut pattern = Vec::new();
        let [first, second] = [a, b].map(|n| Uses::of(&[body(n)]));
        let both = first.joined(&second, &mut pattern);
        let together = Uses::of(&[body(a), body(b)]);
        assert_eq!((&both.bufs, &both.vars), (&together.bufs, &together.vars));
        (key(&p, a, Detail::Schedule), key(&p, b, Detail::Schedule), pattern)
    };
    let together = |&(a, b): &(usize, usize)| {
        let bodies = [body(a), body(b)];
        Uses::of(&bodies).key(&p, &bodies, Detail::Schedule)
    };
    let (apart, together): (Vec<_>, Vec<_>) = pairs.iter().map(|pair| (apart(pair), together(pair))).unzip();
    let mut equal = 0;
    for i in 0..pairs.len() {
        for j in 0..i {
            assert_eq!(apart[i] == apart[j], together[i] == together[j], "{:?} {:?}", pairs[i], pairs[j]);
            equal += usize::from(apart[i] == apart[j]);
        }
    }
    assert!(equal > 10, "{equal}");
}

#[test]
fn statements_of_a_key_are_placed_where_others_use_the_same() {
    let p = sharing();
    let (a, b) = (0, 4);
    let [there, here] = [a, b].map(|n| Uses::of(&[&p.nests[n].body]));
    let excerpt = Excerpt::of(&p, there.clone());
    let mut body = p.nests[a].body.clone();
    excerpt.number(&mut body);
    let own = Uses::of(&[&body]);
    let placement = there.placement(&here);
    placement.statements(&mut body);
    assert_eq!(body, p.nests[b].body);
    assert_eq!(placement.uses(&own).bufs(), here.bufs());
}
