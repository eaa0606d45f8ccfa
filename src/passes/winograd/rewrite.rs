//! A convolution as Winograd's algorithm: blocks of tiles are transformed, multiplied, and transformed back with
//! the epilogue on the results.
//!
//! A block keeps its tiles in two locals, `[n * n][tiles][channels]`, so that each of the `n * n` products is a
//! matrix product that Tile schedules like any other.

use nestjit_ir::visit::{fresh_copy, map_loads};
use nestjit_ir::{
    Affine, BufId, Buffer, DType, Expr, Load, LoopKind, Program, ReduceOp, Role, SCALAR, Stmt, Store, indices,
};

use super::rows::{finish, gather, input_element, with_epilogue};
use super::transform::product;
use crate::passes::schedule::chain::{looped, rechain};
use crate::passes::schedule::minimal_filtering::algorithm::Filtering;
use crate::passes::schedule::minimal_filtering::convolution::{Convolution, Loop};
use crate::passes::schedule::minimal_filtering::cost::FilteringPlan;

/// Writes the statements that replace a convolution.
pub(super) struct Rewrite<'a> {
    program: &'a mut Program,
    conv: &'a Convolution,
    plan: FilteringPlan,
    filters: BufId,
    /// The convolution's epilogue; it reads other sums from memory.
    epilogue: Vec<Stmt>,
}

/// Rows of tiles: `first + 0..full` whole ones, then perhaps one of `rest` output rows.
struct RowBlock {
    first: Affine,
    full: usize,
    rest: usize,
}

impl<'a> Rewrite<'a> {
    /// `filters` are the transformed filters, `[n * n][ci][co]`.
    pub fn new(
        program: &'a mut Program,
        conv: &'a Convolution,
        plan: FilteringPlan,
        filters: BufId,
    ) -> Rewrite<'a> {
        Rewrite { program, conv, plan, filters, epilogue: conv.epilogue.clone() }
    }

    /// The statements.
    pub fn run(mut self) -> Vec<Stmt> {
        let m = self.filtering().outputs();
        let (whole, rest) = (self.conv.rows.1 / m, self.conv.rows.1 % m);
        let rows = self.plan.rows;
        let all = whole + usize::from(rest > 0);
        let (mut body, epilogue) = self.sums_aside();
        self.epilogue = epilogue;
        if rows >= all {
            body.extend(self.block(&RowBlock { first: Affine::constant(0), full: whole, rest }));
        } else {
            let blocks = whole / rows;
            if blocks > 0 {
                let b = self.program.add_var("b");
                let first = Affine::term(b, rows as i64);
                let inner = self.block(&RowBlock { first, full: rows, rest: 0 });
                body.push(looped(b, blocks, LoopKind::Serial, inner));
            }
            if whole % rows > 0 || rest > 0 {
                let first = Affine::constant((blocks * rows) as i64);
                let inner = self.block(&RowBlock { first, full: whole % rows, rest });
                // A loop of its own keeps the locals of the block apart.
                let b = self.program.add_var("b");
                body.push(looped(b, 1, LoopKind::Serial, inner));
            }
        }
        rechain(self.conv.batch.clone(), body)
    }

    /// Statements that compute the block's other sums for the whole image, and the epilogue that reads them.
    fn sums_aside(&mut self) -> (Vec<Stmt>, Vec<Stmt>) {
        let conv = self.conv;
        let (mut out, mut epilogue) = (Vec::new(), conv.epilogue.clone());
        let loops = [conv.rows, conv.columns, conv.filters];
        for (accumulator, sum) in &conv.aside {
            let sums = self.local("aside", &loops.map(|l| l.1));
            let index = indices(loops.map(|l| l.0));
            let mut body = sum.clone();
            let value = Expr::load(*accumulator, SCALAR);
            body.push(Stmt::Store(Store { buf: sums, index: index.clone(), value }));
            out.push(Stmt::Temp(sums));
            out.extend(fresh_copy(self.program, &[wrap(&loops, body)]));
            map_loads(&mut epilogue, &mut |l| {
                let read = Load { buf: sums, index: index.clone(), otherwise: None };
                (l.buf == *accumulator).then_some(Expr::Load(read))
            });
        }
        (out, epilogue)
    }

    fn filtering(&self) -> Filtering {
        self.plan.filtering
    }

    fn wide(&self) -> usize {
        self.conv.columns.1.div_ceil(self.filtering().outputs())
    }

    fn block(&mut self, block: &RowBlock) -> Vec<Stmt> {
        let tiles = (block.full + usize::from(block.rest > 0)) * self.wide();
        let n = self.filtering().inputs();
        let (ci, co) = (self.conv.channels.1, self.conv.filters.1);
        let input = self.tile_buffer("input", n * n, tiles, ci);
        let products = self.tile_buffer("products", n * n, tiles, co);
        let mut out = vec![Stmt::Temp(input)];
        let gathered = self.conv.gathered.then(|| {
            let m = self.filtering().outputs();
            let size = [tiles / self.wide(), self.wide()].map(|tiles| m * tiles + n - m);
            let rows = self.local("rows", &[size[0], size[1], ci]);
            out.push(Stmt::Temp(rows));
            let first = block.first.scale(m as i64);
            out.extend(gather(self.program, self.conv, &first, size, rows));
            rows
        });
        out.push(self.transform_input(block, input, gathered));
        out.push(Stmt::Temp(products));
        out.push(self.multiply(tiles, input, products));
        out.extend(self.transform_output(block, products));
        out
    }

    /// A local `[products][tiles][channels]`. Distances of whole pages between the elements of a tile would map
    /// them to the same lines of the first-level cache, so that one tile more may be allocated.
    fn tile_buffer(&mut self, name: &str, products: usize, tiles: usize, channels: usize) -> BufId {
        const PAGE: usize = 4096;
        let aliased = (tiles * channels * size_of::<f32>()).is_multiple_of(PAGE);
        let shape = [products, tiles + usize::from(aliased), channels];
        self.local(name, &shape)
    }

    fn local(&mut self, name: &str, shape: &[usize]) -> BufId {
        let name = self.program.unique_buffer_name(&format!("winograd.{name}"));
        self.program.add_buffer(Buffer::new(name, DType::F32, shape, Role::Local))
    }

    /// Loops over the tiles of a block and a third one: their variables, and what to wrap a body in.
    fn tile_loops(&mut self, rows: usize, columns: usize, inner: Loop) -> [Loop; 3] {
        let name = self.program.var_name(inner.0).to_owned();
        let mut var = |name: &str| self.program.add_var(name);
        [(var("th"), rows), (var("tw"), columns), (var(&name), inner.1)]
    }

    /// Transforms tiles of the input, or of its rows that are `gathered` in a local.
    fn transform_input(&mut self, block: &RowBlock, to: BufId, gathered: Option<BufId>) -> Stmt {
        let (n, m) = (self.filtering().inputs(), self.filtering().outputs() as i64);
        let wide = self.wide() as i64;
        let conv = self.conv;
        let loops = self.tile_loops(block.full + usize::from(block.rest > 0), self.wide(), conv.channels);
        let [(th, _), (tw, _), (c, _)] = loops;
        let mut code = BlockCode::new(self.program);
        let (elements, half) = (code.declare("d", &[n, n]), code.declare("e", &[n, n]));
        let mut shared = code.shared(n);
        let row = block.first.add(&th.into()).scale(m);
        let column = Affine::term(tw, m);
        for j in 0..n {
            for i in 0..n {
                let column = column.plus(j as i64);
                let value = match gathered {
                    Some(rows) => Expr::load(rows, [Affine::term(th, m).plus(i as i64), column, c.into()]),
                    None => Expr::Load(input_element(conv, &row.plus(i as i64), &column, c)),
                };
                code.store(elements, [i, j], value);
            }
            let values: Vec<Expr> = (0..n).map(|i| cell(elements, [i, j])).collect();
            let products = code.product(self.plan.filtering.input_matrix(), &values, &mut shared);
            for (i, value) in products.into_iter().enumerate() {
                code.store(half, [i, j], value);
            }
        }
        let tile = Affine::term(th, wide).add(&tw.into());
        for i in 0..n {
            let values: Vec<Expr> = (0..n).map(|j| cell(half, [i, j])).collect();
            let products = code.product(self.plan.filtering.input_matrix(), &values, &mut shared);
            for (j, value) in products.into_iter().enumerate() {
                let index = [Affine::constant((i * n + j) as i64), tile.clone(), c.into()];
                code.push(Stmt::Store(Store { buf: to, index: indices(index), value }));
            }
        }
        wrap(&loops, code.stmts)
    }

    fn multiply(&mut self, tiles: usize, input: BufId, products: BufId) -> Stmt {
        let n = self.filtering().inputs();
        let (ci, co) = (self.conv.channels.1, self.conv.filters.1);
        let mut var = |name: &str| self.program.add_var(name);
        let (x, t, c, k) = (var("xi"), var("t"), var("co"), var("ci"));
        let sum = self.local("sum", &[]);
        let value = Expr::load(input, [x, t, k]) * Expr::load(self.filters, [x, k, c]);
        let body = vec![
            Stmt::Temp(sum),
            Stmt::Store(Store { buf: sum, index: Vec::new(), value: Expr::f32(0.0) }),
            looped(
                k,
                ci,
                LoopKind::Serial,
                vec![Stmt::Reduce(nestjit_ir::Reduce {
                    op: ReduceOp::Add,
                    buf: sum,
                    index: Vec::new(),
                    value,
                })],
            ),
            Stmt::Store(Store { buf: products, index: indices([x, t, c]), value: Expr::load(sum, SCALAR) }),
        ];
        wrap(&[(x, n * n), (t, tiles), (c, co)], body)
    }

    /// Whole tiles, and those that the edges of the output cut.
    fn transform_output(&mut self, block: &RowBlock, from: BufId) -> Vec<Stmt> {
        let m = self.filtering().outputs();
        let (whole, rest) = (self.conv.columns.1 / m, self.conv.columns.1 % m);
        let mut out = Vec::new();
        let height = block.full * m + block.rest;
        let rows_of_results = self.conv.scattered.then(|| {
            let rows = self.local("results", &[height, self.conv.columns.1, self.conv.filters.1]);
            out.push(Stmt::Temp(rows));
            rows
        });
        for (first_row, rows, height) in [(0, block.full, m), (block.full, 1, block.rest)] {
            for (first_column, columns, width) in [(0, whole, m), (whole, 1, rest)] {
                if rows * height * columns * width > 0 {
                    let at = [first_row, first_column];
                    let sizes = [[rows, columns], [height, width]];
                    out.push(self.output_tiles(block, from, at, sizes, rows_of_results));
                }
            }
        }
        if let Some(rows) = rows_of_results {
            let first = block.first.scale(m as i64);
            out.push(finish(self.program, self.conv, &self.epilogue, &first, height, rows));
        }
        out
    }

    /// The tiles from `at` on, of which `height x width` elements belong to the output.
    fn output_tiles(
        &mut self,
        block: &RowBlock,
        from: BufId,
        at: [usize; 2],
        [[rows, columns], [height, width]]: [[usize; 2]; 2],
        rows_of_results: Option<BufId>,
    ) -> Stmt {
        let (n, m) = (self.filtering().inputs(), self.filtering().outputs() as i64);
        let wide = self.wide() as i64;
        let conv = self.conv;
        let matrix = self.plan.filtering.output_matrix();
        let loops = self.tile_loops(rows, columns, conv.filters);
        let [(th, _), (tw, _), (c, _)] = loops;
        let (th, tw) = (Affine::from(th).plus(at[0] as i64), Affine::from(tw).plus(at[1] as i64));
        let tile = th.scale(wide).add(&tw);
        let mut code = BlockCode::new(self.program);
        let (elements, half) = (code.declare("p", &[n, n]), code.declare("q", &[height, n]));
        let mut shared = code.shared(n);
        for j in 0..n {
            for i in 0..n {
                let index = [Affine::constant((i * n + j) as i64), tile.clone(), c.into()];
                code.store(elements, [i, j], Expr::load(from, index));
            }
            let values: Vec<Expr> = (0..n).map(|i| cell(elements, [i, j])).collect();
            let products = code.product(&matrix[..height], &values, &mut shared);
            for (i, value) in products.into_iter().enumerate() {
                code.store(half, [i, j], value);
            }
        }
        for i in 0..height {
            let values: Vec<Expr> = (0..n).map(|j| cell(half, [i, j])).collect();
            let products = code.product(&matrix[..width], &values, &mut shared);
            for (j, value) in products.into_iter().enumerate() {
                let column = tw.scale(m).plus(j as i64);
                if let Some(rows) = rows_of_results {
                    let index = indices([th.scale(m).plus(i as i64), column, c.into()]);
                    code.push(Stmt::Store(Store { buf: rows, index, value }));
                    continue;
                }
                let row = block.first.add(&th).scale(m).plus(i as i64);
                code.stmts.extend(with_epilogue(
                    code.program,
                    conv,
                    &self.epilogue,
                    value,
                    [&row, &column, &c.into()],
                ));
            }
        }
        wrap(&loops, code.stmts)
    }
}

/// Straight-line code of one tile.
struct BlockCode<'a> {
    program: &'a mut Program,
    stmts: Vec<Stmt>,
}

/// Cells for sums that several results share; each is written once.
struct Shared {
    buf: BufId,
    used: usize,
}

impl BlockCode<'_> {
    fn new(program: &mut Program) -> BlockCode<'_> {
        BlockCode { program, stmts: Vec::new() }
    }

    fn push(&mut self, stmt: Stmt) {
        self.stmts.push(stmt);
    }

    fn declare(&mut self, name: &str, shape: &[usize]) -> BufId {
        let name = self.program.unique_buffer_name(&format!("winograd.{name}"));
        let buf = self.program.add_buffer(Buffer::new(name, DType::F32, shape, Role::Local));
        self.push(Stmt::Temp(buf));
        buf
    }

    /// Room for what products share: each of at most `2 n` products keeps at most four sums.
    fn shared(&mut self, n: usize) -> Shared {
        Shared { buf: self.declare("s", &[8 * n]), used: 0 }
    }

    fn store(&mut self, buf: BufId, at: [usize; 2], value: Expr) {
        let index = indices(at.map(|i| Affine::constant(i as i64)));
        self.push(Stmt::Store(Store { buf, index, value }));
    }

    fn product(&mut self, matrix: &[&[f64]], vector: &[Expr], shared: &mut Shared) -> Vec<Expr> {
        let stmts = &mut self.stmts;
        product(matrix, vector, &mut |value| {
            let index = [Affine::constant(shared.used as i64)];
            shared.used += 1;
            stmts.push(Stmt::Store(Store { buf: shared.buf, index: indices(index.clone()), value }));
            Expr::load(shared.buf, index)
        })
    }
}

fn cell(buf: BufId, at: [usize; 2]) -> Expr {
    Expr::load(buf, at.map(|i| Affine::constant(i as i64)))
}

fn wrap(loops: &[Loop], mut body: Vec<Stmt>) -> Stmt {
    for &(var, extent) in loops[1..].iter().rev() {
        body = vec![looped(var, extent, LoopKind::Serial, body)];
    }
    looped(loops[0].0, loops[0].1, LoopKind::Serial, body)
}
