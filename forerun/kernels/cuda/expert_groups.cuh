// How many rows of an expert are a group, which shares a read of the weights: as forerun.schedules.expert_gemv has it.
#pragma once

__device__ constexpr int group_rows_of(int columns) { return columns <= 3584 ? 16 : 8; }
