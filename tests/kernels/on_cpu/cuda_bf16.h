// Instead of CUDA's header.
#pragma once
#define HALF __nv_bfloat16
#define PAIR __nv_bfloat162
#define PAIR_NAME bfloat162
#define NAME bfloat16
#define EXPONENT 8
#define MANTISSA 7
#include "halves.h"
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;
