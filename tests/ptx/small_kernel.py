"""The head of small kernels: parameters, registers, and what most of them load."""

from __future__ import annotations

__all__ = ["HEAD"]

HEAD = """\
.version 9.0
.target sm_90a
.global .b32 counter;
.extern .func helper;
.entry k(.param .u64 .ptr .global a, .param .u64 b, .param .u64 n, .param .u32 m, .param .align 8 .b8 s[32])
{
.reg .b32 %r<9>; .reg .b64 %rd<19>; .reg .pred %p<9>; .shared .align 8 .b8 tile[64];
ld.param.u64 %rd1, [a];
ld.param.u64 %rd2, [b];
ld.param.u64 %rd3, [n];
ld.param.u32 %r3, [m];
ld.param.u64 %rd4, [s+8];
cvta.to.global.u64 %rd12, %rd2;
cvta.to.global.u64 %rd14, %rd4;
mov.u32 %r1, %tid.x;
setp.lt.u32 %p1, %r1, 4;
setp.lt.u32 %p2, %r3, 4;
"""
