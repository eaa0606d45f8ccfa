"""Attention, and what belongs to it."""

import math

import numpy as np

from cases import Case, Const, either, extent, extents, flag, floats, given, operator, optional


def common(rng):
    """Batch, length, heads, size of a head."""
    return extent(rng, 1, 3), extent(rng, 1, 6), extent(rng, 1, 4), extent(rng, 1, 8)


def masks(rng, b, s, t, starts):
    """A mask of any form, or none; every query sees a key."""
    kind = extent(rng, 0, 4 if starts else 3)
    if kind == 0:
        return None
    if kind == 1:
        mask = rng.integers(0, 2, (b, t))
        mask[:, 0] = 1
    elif kind == 2:
        mask = rng.integers(0, 2, (b, s, t))
        mask[:, :, 0] = 1
    elif kind == 3:
        mask = rng.integers(1, t + 1, b)
    else:
        begin = rng.integers(0, t, b)
        mask = np.concatenate([[extent(rng, int(x) + 1, t) for x in begin], begin])
    return mask.astype(np.int32)


def scores_bias(rng, b, n, s, t):
    shape = (b if flag(rng) else 1, n if flag(rng) else 1, s, t)
    return optional(rng, floats(rng, *shape), 0.4)


@operator("com.microsoft.Attention")
def attention(rng, name):
    b, s, n, d = common(rng)
    hidden, width = extent(rng, 1, 12), d
    attributes = {"num_heads": n, **given(rng, {"unidirectional": flag(rng), "scale": 0.3}, 0.4)}
    past = None
    p = 0
    if flag(rng, 0.4):
        p = extent(rng, 0, 4)
        past = floats(rng, 2, b, n, p, d)
    elif flag(rng, 0.4):
        width = extent(rng, 1, 8)
        attributes["qkv_hidden_sizes"] = [n * d, n * d, n * width]
    total = n * (2 * d + width)
    t = p + s
    mask = masks(rng, b, s, t, True)
    if mask is not None and mask.ndim == 1 and len(mask) == 2 * b and attributes.get("unidirectional"):
        # The first queries would see nothing.
        mask[b:] = 0
    inputs = [floats(rng, b, s, hidden), either(rng, floats(rng, hidden, total, scale=0.5)),
              either(rng, floats(rng, total)), mask, past,
              # ONNX Runtime has not both.
              scores_bias(rng, b, n, s, t) if past is None else None]
    outputs = (True, True) if past is not None else (True,)
    return Case(name, inputs, attributes, outputs, tolerance=1e-4)


@operator("MultiHeadAttention")
def multi_head(rng, name):
    b, s, n, d = common(rng)
    width = extent(rng, 1, 8)
    crossed = flag(rng, 0.3)
    l = extent(rng, 1, 6)
    query = floats(rng, b, s, n * d)
    past = [None, None]
    p = 0
    if crossed:
        width = d
        key, value = floats(rng, b, n, l, d), floats(rng, b, n, l, d)
    else:
        if flag(rng, 0.5):
            p, width = extent(rng, 0, 4), d
            past = [floats(rng, b, n, p, d), floats(rng, b, n, p, d)]
            l = s
        key, value = floats(rng, b, l, n * d), floats(rng, b, l, n * width)
    t = p + l
    attributes = {"num_heads": n, **given(rng, {"unidirectional": flag(rng), "scale": 0.3}, 0.4)}
    bias = None if crossed else optional(rng, floats(rng, n * (2 * d + width)))
    mask = masks(rng, b, s, t, False)
    if attributes.get("unidirectional") and mask is not None and mask.ndim > 1:
        mask[..., 0] = 1
    # Without a result for them, ONNX Runtime reads keys and values of the past that it never wrote.
    present = past[0] is not None or (not crossed and flag(rng) == 1)
    outputs = (True, present, present, False)
    return Case(name, [query, key, value, bias, mask, scores_bias(rng, b, n, s, t), *past], attributes, outputs,
                tolerance=1e-4)


@operator("DecoderMaskedMultiHeadAttention")
def decoder(rng, name):
    b, _, n, d = common(rng)
    attributes = {"num_heads": n, **given(rng, {"scale": 0.3}, 0.4)}
    query = floats(rng, b, 1, n * d)
    bias = optional(rng, floats(rng, 3 * n * d))
    if flag(rng, 0.3):
        l = extent(rng, 1, 6)
        key, value = floats(rng, b, n, l, d), floats(rng, b, n, l, d)
        return Case(name, [query, key, value], attributes, tolerance=1e-4)
    key, value = floats(rng, b, 1, n * d), floats(rng, b, 1, n * d)
    p = extent(rng, 1, 5)
    attributes["past_present_share_buffer"] = 1
    m, length = p + extent(rng, 1, 3), np.array([p], np.int32)
    past = [floats(rng, b, n, m, d), floats(rng, b, n, m, d)]
    mask = masks(rng, b, 1, p + 1, False)
    if mask is not None and mask.ndim != 2:
        mask = None
    inputs = [query, key, value, mask, scores_bias(rng, b, n, 1, p + 1), *past, length, None, None, bias]
    # What lies behind the last key of a buffer is not said.
    visible = lambda number, array: array if number == 0 else array[:, :, :p + 1]
    return Case(name, inputs, attributes, (True, True, True), tolerance=1e-4, visible=visible)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@operator("PackedAttention")
def packed(rng, name):
    b, s, n, d = common(rng)
    hidden = extent(rng, 1, 12)
    lengths = rng.integers(1, s + 1, b)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    real = [i * s + j for i in range(b) for j in range(lengths[i])]
    padding = [i for i in range(b * s) if i not in real]
    offsets = np.array(real + padding, np.int32).reshape(b, s)
    bias = scores_bias(rng, b, n, s, s)

    def reference(case, x, w, addend, offsets, ends, bias=None):
        y = x.astype(np.float64) @ w + addend
        results = []
        for i in range(b):
            rows = y[ends[i]:ends[i + 1]]
            q, k, v = (part.reshape(-1, n, d).swapaxes(0, 1) for part in np.split(rows, 3, 1))
            scores = q @ k.swapaxes(1, 2) / math.sqrt(d)
            if bias is not None:
                own = bias[i if len(bias) > 1 else 0]
                scores = scores + own[:, :len(rows), :len(rows)]
            results.append((softmax(scores) @ v).swapaxes(0, 1).reshape(len(rows), -1))
        return np.concatenate(results).astype(np.float32)

    inputs = [floats(rng, len(real), hidden), either(rng, floats(rng, hidden, 3 * n * d)),
              either(rng, floats(rng, 3 * n * d)), offsets, ends, bias]
    return Case(name, inputs, {"num_heads": n}, tolerance=1e-4, reference=reference)


@operator("GroupQueryAttention")
def grouped(rng, name):
    b, s, groups, d = common(rng)
    rotary = flag(rng)
    d = 16 if rotary else 8
    n = groups * extent(rng, 1, 3)
    p = 0
    if flag(rng):
        # A prompt, padded on the right.
        total, m = s, s
        lengths = rng.integers(0, s, b)
        lengths[rng.integers(b)] = s - 1
        if flag(rng):
            m = s + extent(rng, 0, 3)
    else:
        # More tokens.
        if b > 1:
            s = 1
        p = extent(rng, 1, 5)
        total = p + s
        lengths = np.full(b, total - 1)
        if b > 1:
            lengths = rng.integers(s, total, b)
            lengths[rng.integers(b)] = total - 1
        # A buffer has room for the tokens that come.
        m = total + extent(rng, 0, 3) if flag(rng) else p
    lengths = lengths.astype(np.int32)
    attributes = {"num_heads": n, "kv_num_heads": groups}
    attributes.update(given(rng, {"scale": 0.3, "softcap": 1.5, "local_window_size": extent(rng, 1, 4)}, 0.3))
    if rotary:
        attributes.update(do_rotary=1, **given(rng, {"rotary_interleaved": flag(rng)}))
    sink = None
    if flag(rng, 0.2):
        attributes["smooth_softmax"] = 1
    elif flag(rng, 0.2):
        sink = floats(rng, n)
    if flag(rng):
        query, key, value = floats(rng, b, s, (n + 2 * groups) * d), None, None
    else:
        query, key, value = (floats(rng, b, s, h * d) for h in (n, groups, groups))
    past = [floats(rng, b, groups, m, d) if m else None for _ in range(2)]
    if not p and not flag(rng):
        past = [None, None]
    angle = rng.uniform(0, 6, (max(total, m) + 2, d // 2)).astype(np.float32)
    tables = [Const(np.cos(angle)), Const(np.sin(angle))] if rotary else [None, None]
    bias = scores_bias(rng, b, n, s, total)
    inputs = [query, key, value, *past, lengths, either(rng, np.array(total, np.int32)), *tables, None, bias, sink]

    def visible(number, array):
        """Without padding and what lies behind the last token."""
        parts = []
        for i in range(b):
            count = int(lengths[i]) + 1
            if number == 0:
                parts.append(array[i, :count] if not p else array[i])
            else:
                parts.append(array[i, :, :count])
        return np.concatenate([part.ravel() for part in parts])

    return Case(name, inputs, attributes, (True, True, True), tolerance=1e-4, visible=visible)


@operator("com.microsoft.RotaryEmbedding")
def rotary(rng, name):
    b, s, n, d = common(rng)
    d, m = 2 * d, s + extent(rng, 0, 4)
    attributes = given(rng, {"interleaved": flag(rng)})
    half = d // 2
    if flag(rng, 0.4):
        half = extent(rng, 1, d // 2)
        attributes.update(rotary_embedding_dim=2 * half, num_heads=n)
    elif flag(rng):
        attributes["num_heads"] = n
    x = floats(rng, b, n, s, d) if flag(rng) else floats(rng, b, s, n * d)
    angle = rng.uniform(0, 6, (m, half)).astype(np.float32)
    positions = np.array([extent(rng, 0, m - s)]) if flag(rng) else rng.integers(0, m, (b, s))
    inputs = [x, positions.astype(np.int64), Const(np.cos(angle)), either(rng, np.sin(angle))]
    return Case(name, inputs, attributes)


@operator("RelativePositionBias")
def relative_position(rng, name):
    buckets, n, q = 2 * extent(rng, 2, 16), extent(rng, 1, 4), extent(rng, 1, 20)
    k, both = q, flag(rng)
    most = buckets + extent(rng, 1, 100)

    def reference(case, table, *_):
        """As T5 has it, but for the table's layout."""
        position = np.arange(k)[None] - np.arange(q)[:, None]
        half, first = buckets, np.zeros_like(position)
        if both:
            half //= 2
            first = (position > 0) * half
            position = np.abs(position)
        else:
            position = -np.minimum(position, 0)
        exact = half // 2
        with np.errstate(divide="ignore"):
            far = exact + (np.log(position.astype(np.float32) / np.float32(exact)) /
                           np.log(np.float32(most) / np.float32(exact)) * (half - exact))
        far = np.minimum(np.where(position > 0, far, 0).astype(np.int64), half - 1)
        rows = first + np.where(position < exact, position, far)
        return table.reshape(n, buckets)[:, rows][None]

    length = lambda v: Const(np.array([v], np.int64))
    attributes = {"max_distance": most, **({"is_bidirectional": 1} if both else {})}
    return Case(name, [floats(rng, buckets, n), length(q), length(k)], attributes, reference=reference)


@operator("GatedRelativePositionBias")
def gated_relative_position(rng, name):
    b, s, n, d = common(rng)
    width = 2 * extent(rng, 1, 4)

    def reference(case, query, bias, position, weight, addend, eco):
        q = (query.astype(np.float64) + bias).reshape(b, s, n, d).swapaxes(1, 2)
        gates = (q @ weight + addend).reshape(b, n, s, 2, width // 2).sum(-1)
        update, reset = np.split(1 / (1 + np.exp(-gates)), 2, -1)
        return ((update * (reset * eco - 1) + 2) * position).astype(np.float32)

    inputs = [floats(rng, b, s, n * d), floats(rng, n * d), floats(rng, 1, n, s, s), either(rng, floats(rng, d, width)),
              floats(rng, width), floats(rng, 1, n, 1, 1)]
    return Case(name, inputs, {"num_heads": n}, tolerance=1e-4, reference=reference)
