"""The fusion rules of this package's kernels: how the small kernels of a decode step become a few large ones.

Those of groups of launches are in :mod:`forerun.kernels.persistent.group_rules`.

Sums are taken in another order on a GPU (f32, over up to some thousand products), which is what the tolerances allow.
"""

from __future__ import annotations

from forerun.ir.fusion import Match, Part, Pattern, Rejection, Replacement, fusion_rule
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import ConstantArgument
from forerun.ir.types import DType
from forerun.kernels import (
    add,
    argmax_partial,
    attention,
    attention_cluster,
    attention_merge,
    attention_split,
    fusion_examples,
    gemv,
    head_norm,
    norm_gate_up,
    norm_head,
    norm_qkv_rope,
    packed_gemv,
    projection_add,
    rmsnorm,
    rope_append,
    silu_mul,
)
from forerun.kernels.packing import PACKINGS, Storage
from forerun.kernels.persistent.group_rules import fuse_requests

__all__ = ["fuse_attention", "fuse_gate_up", "fuse_head", "fuse_projection", "fuse_qkv", "fuse_requests"]

_FLOATS = DType.F32, DType.BF16, DType.F16
_PLAIN_GEMV = {gemv.declare(dtype): dtype for dtype in _FLOATS}
_PACKED_GEMV = {packed_gemv.declare(packing): packing for packing in PACKINGS.values()}
_STORAGE: dict[Kernel, Storage] = {**_PLAIN_GEMV, **_PACKED_GEMV}
_GEMV = tuple(_STORAGE)
_ROPE = tuple(rope_append.declare(dtype) for dtype in _FLOATS)
_ATTENTION = tuple(attention.declare(dtype) for dtype in _FLOATS)
_SPLIT = tuple(attention_split.declare(dtype) for dtype in _FLOATS)


def _norm() -> Part:
    """The norm that every CTA of the kernels after it can compute for itself."""
    variables = {"x": "x", "w": "scale", "y": "normed", "eps": "eps"}
    return Part("norm", (rmsnorm.KERNEL,), variables, recomputed=True)


def _gemv(name: str, w: str, x: str, y: str) -> Part:
    return Part(name, _GEMV, {"w": w, "x": x, "y": y})


def _add(name: str, a: str, b: str, y: str) -> Part:
    return Part(name, (add.KERNEL,), {"a": a, "b": b, "y": y})


def _rope() -> Part:
    names = ("q", "k", "v", "frequencies", "q_out", "k_cache", "v_cache", "pos")
    return Part("rope", _ROPE, {name: name for name in names})


_QKV: Pattern = (_norm(), *(_gemv(n, f"w_{n}", "normed", n) for n in "qkv"), _rope())

_QKV_BIAS: Pattern = (
    _norm(),
    *(part for n in "qkv" for part in (_gemv(n, f"w_{n}", "normed", f"{n}0"), _add(f"bias_{n}", f"b_{n}", f"{n}0", n))),
    _rope(),
)


def _head_norm(name: str) -> Part:
    variables = {"x": f"{name}0", "w": f"{name}_scale", "y": name, "eps": "eps"}
    return Part(f"norm_{name}", (head_norm.KERNEL,), variables)


_QKV_NORMS: Pattern = (
    _norm(),
    *(part for n in "qk" for part in (_gemv(n, f"w_{n}", "normed", f"{n}0"), _head_norm(n))),
    _gemv("v", "w_v", "normed", "v"),
    _rope(),
)


@fusion_rule("norm-qkv-rope", _QKV, _QKV_BIAS, _QKV_NORMS, tolerance=1e-5, example=fusion_examples.norm_qkv_rope)
def fuse_qkv(match: Match) -> Replacement | Rejection:
    """A norm, the projections to queries, keys and values, their biases or norms, RoPE, and the appended rows."""
    storage, cache = _storage(match, "q"), match.buffer("k_cache").dtype
    if any(_storage(match, name) != storage for name in "kv"):
        return Rejection("the matrices are of different types")
    rows, key_rows, (columns,) = match.shape("w_q")[0], match.shape("w_k")[0], match.shape("normed")
    if not norm_qkv_rope.fits(columns, match.shape("q_out")[1], storage):
        return _no_fit("norm_qkv_rope", columns, storage)
    if "q_scale" in match.arguments:
        kernel = norm_qkv_rope.declare(storage, cache, head_norms=True)
        (heads, size), (_, kv_heads, _) = match.shape("q_out"), match.shape("k_cache")
        launch = norm_qkv_rope.head_norm_launch_for(heads, kv_heads, size, columns, storage)
    else:
        kernel = norm_qkv_rope.declare(storage, cache, bias="b_q" in match.arguments)
        launch = norm_qkv_rope.launch_for(rows, key_rows, columns, storage)
    return Replacement(kernel, launch, {parameter.name: parameter.name for parameter in kernel.parameters})


_GATE_UP: Pattern = (
    _norm(),
    _gemv("gate", "w_gate", "normed", "gate"),
    _gemv("up", "w_up", "normed", "up"),
    Part("activate", (silu_mul.KERNEL,), {"gate": "gate", "up": "up", "y": "y"}),
)


@fusion_rule("norm-gate-up", _GATE_UP, tolerance=1e-5, example=fusion_examples.norm_gate_up)
def fuse_gate_up(match: Match) -> Replacement | Rejection:
    """A norm, the two projections of a feed-forward block that read it, and SwiGLU."""
    storage = _storage(match, "gate")
    if _storage(match, "up") != storage:
        return Rejection("the matrices are of different types")
    rows, (columns,) = match.shape("w_gate")[0], match.shape("normed")
    if not norm_gate_up.fits(columns, storage):
        return _no_fit("norm_gate_up", columns, storage)
    kernel = norm_gate_up.declare(storage)
    launch = norm_gate_up.launch_for(rows, columns, storage)
    return Replacement(kernel, launch, {parameter.name: parameter.name for parameter in kernel.parameters})


_PROJECT = _gemv("project", "w", "x", "product")


@fusion_rule(
    "projection-add",
    (_PROJECT, _add("add", "residual", "product", "y")),
    (_PROJECT, _add("add", "product", "residual", "y")),
    tolerance=1e-5,
    example=fusion_examples.projection_add,
)
def fuse_projection(match: Match) -> Replacement | Rejection:
    """A projection, and the residual (or bias) that is added to it."""
    storage = _storage(match, "project")
    rows, (columns,) = match.shape("w")[0], match.shape("x")
    if not projection_add.fits(columns, storage):
        return _no_fit("projection_add", columns, storage)
    kernel, launch = projection_add.declare(storage), projection_add.launch_for(rows, columns, storage)
    return Replacement(kernel, launch, {parameter.name: parameter.name for parameter in kernel.parameters})


_HEAD: Pattern = (
    _norm(),
    _gemv("project", "w", "normed", "logits"),
    Part(
        "choose",
        (argmax_partial.KERNEL,),
        {"logits": "logits", "best": "best_value", "place": "best_index", "parts": "parts"},
    ),
)


@fusion_rule("norm-head", _HEAD, tolerance=1e-5, example=fusion_examples.norm_head)
def fuse_head(match: Match) -> Replacement | Rejection:
    """The last norm, the projection to logits, which are written, and the greatest of each part of them."""
    storage = _storage(match, "project")
    rows, (columns,) = match.shape("w")[0], match.shape("normed")
    (parts,) = match.shape("best_value")
    if match.arguments["parts"] != ConstantArgument(parts):
        return Rejection("the number of parts is not the extent of what they give")
    if not norm_head.fits(columns, storage, rows, parts):
        return _no_fit("norm_head", columns, storage)
    kernel, launch = norm_head.declare(storage), norm_head.launch_for(rows, columns, storage, parts)
    return Replacement(kernel, launch, {parameter.name: parameter.name for parameter in kernel.parameters})


_CACHES = {"q": "q", "k_cache": "k_cache", "v_cache": "v_cache", "pos": "pos"}
_WHOLE: Pattern = (Part("attend", _ATTENTION, {**_CACHES, "y": "y"}),)
_IN_PARTS: Pattern = (
    Part("attend", _SPLIT, {**_CACHES, "partial": "partial", "statistics": "statistics", "splits": "splits"}),
    Part("merge", (attention_merge.KERNEL,), {"partial": "partial", "statistics": "statistics", "y": "y"}),
)


@fusion_rule("attention-cluster", _WHOLE, _IN_PARTS, tolerance=1e-5, example=fusion_examples.attention_cluster)
def fuse_attention(match: Match) -> Replacement | Rejection:
    """Attention, in parts that are merged or not, by clusters of CTAs that exchange what they find."""
    (heads, head_size), (rows, kv_heads, _) = match.shape("q"), match.shape("k_cache")
    cache = match.buffer("k_cache").dtype
    if not attention_cluster.fits(heads, kv_heads, head_size, cache):
        return Rejection(f"attention_cluster does not take {heads} heads of {head_size} over {kv_heads} of {cache}")
    kernel, launch = attention_cluster.declare(cache), attention_cluster.launch_for(kv_heads, rows, head_size)
    return Replacement(kernel, launch, {parameter.name: parameter.name for parameter in kernel.parameters})


def _storage(match: Match, part: str) -> Storage:
    """How the matrix of a part is stored: the kernel knows, since a packed one is only bytes to the graph."""
    return _STORAGE[match.kernel(part)]


def _no_fit(kernel: str, columns: int, storage: Storage) -> Rejection:
    return Rejection(f"{kernel} does not take matrices of {columns} columns of {storage}")
