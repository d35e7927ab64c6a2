// Attention of one query over all rows up to its position.

constexpr int splits = 1;
#include "attention_rows.cuh"

__device__ __forceinline__ void attend(const Arguments& a, Locals& l) {
    attend_with(a, l, [&](const Item& item, int h, int element, const Merged& all) {
        a.y[(item.first_head + h) * Dims::HD + element] = all.weighted / all.sum;
    });
}
