// Instead of CUDA's header.
#pragma once
#define HALF __half
#define PAIR __half2
#define PAIR_NAME half2
#define NAME half
#define EXPONENT 5
#define MANTISSA 10
#include "halves.h"
using half = __half;
using half2 = __half2;
