"""Texts of PTX for the tests: small kernels of NVRTC 13.0 and Triton (3.6, 3.7, 3.9), and one with all else."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

__all__ = ["ALL", "DATA", "EVERYTHING", "mutations"]

DATA = {path.stem: path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parent / "data").glob("*.ptx"))}

EVERYTHING = """\
.version 9.0
.target sm_90a, debug
.address_size 64
.file 1 "k.cu", 123, 456
.extern .func (.param .b32 func_retval0) vprintf (.param .b64 vprintf_param_0, .param .b64 vprintf_param_1) ;
.visible .global .align 4 .v2 .f32 pairs[2][2] = {{1.0, 0f3F800000}, {-1, 2}}; /* a ; and a { */
.extern .shared .align 16 .b8 dynamic[];
.weak .const .u64 where = generic(pairs) + 4, second;
.global .attribute(.managed) .b32 shared_with_host;
.func helper;
.func (.reg .b32 %out) helper (.reg .b32 %in) .noreturn
{
\tret;
}
.visible .entry kernel(
\t.param .u64 .ptr .global .align 16 kernel_param_0,
\t.param .align 8 .b8 kernel_param_1[24]
)
.maxntid 128, 1, 1
.minnctapersm 2
.explicitcluster .reqnctapercluster 2, 1, 1
.pragma "nounroll";
{
\t.reg .pred %p<3>;  .reg .b32 a, b, r<4>;
\t.reg .v4 .f32 %v;
\t.shared .align 8 .b64 barriers[2];
\t.loc 1 3 4, function_name $L__info_string0+7, inlined_at 1 5 6
\t@!%p1 ld.param.u32 a, [kernel_param_1+8];
\t@ ! %p2 bra.uni $done;
\tsetp.lt.and.s32 %p1|%p2, a, -5, !%p2; // a ; in a comment
\tadd.f32 %f1, %v.x, 0fBF800000;
\tadd.f64 %fd1, %fd2, 0d3FF0000000000000;
\tmov.b64 {r0, _}, %rd1;
\tld.global.nc.L1::evict_last.L2::cache_hint.v4.u32 {r0, r1, r2, r3}, [%rd1 + -16], %rd2;
\tcp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [barriers], [%rd1, {a, b}], [%rd2+8];
\t{ // a scope
\t.reg .pred P1;
LAB_WAIT:
\tmbarrier.try_wait.parity.shared::cta.b64 P1, [%r1], 0x1F;
\t@P1 bra DONE;
\tbra LAB_WAIT;
DONE:
\t}
\t{ .param .b64 param0; st.param.b64 [param0], %rd1;
\tcall.uni (retval0), vprintf, (param0, param1);
\tcall helper, ();
\tcall (%r1), %rd5, (a), prototype_0;
\t}
prototype_0 : .callprototype (.param .b32 _) _ (.param .b64 _);
targets: .branchtargets $done, $other;
\tbrx.idx a, targets;
\tmov.u64 %rd3, dynamic+16;
\tmov.u32 %r1, WARP_SZ;
\tmul.lo.s32 %r1, %r1, 010U;
$other:
$done:
\t.pragma "nounroll";
\tret;
\t/* the end } */
}
.alias one, helper;
\t.section\t.debug_str
\t{
$L__info_string0:
.b8 103 // } a bracket
\t}
\t.section .debug_macinfo { }
// bye"""

ALL = {**DATA, "everything": EVERYTHING}

_INSERTED = [*';:,.{}[]()@%$!|+-"/<>=\\\0\n', "/*", "*/", "//", ".reg", ".entry k(", "@%p1", "0x", "1.5e", "é", "\r\n"]


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """A text in which a few pieces are removed, doubled, moved or replaced."""
    text = draw(st.sampled_from(list(ALL.values())))
    begin = draw(st.integers(0, max(len(text) - 3000, 0)))
    text = text[: draw(st.integers(200, 600))] + text[begin : begin + 3000] if draw(st.booleans()) else text[:6000]
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = min(start + draw(st.integers(0, 12)), len(text))
        piece = draw(st.sampled_from(["", text[start:stop] * 2, *_INSERTED]))
        text = text[:start] + piece + text[stop:]
    return text
