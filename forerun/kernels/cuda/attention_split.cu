// Attention of one query over parts of the rows up to its position; attention_merge.cu puts the parts together.

constexpr int splits = Dims::S;
#include "attention_rows.cuh"

__device__ __forceinline__ void attend(const Arguments& a, Locals& l) {
    attend_with(a, l, [&](const Item& item, int h, int element, const Merged& part) {
        const int place = item.split * Dims::H + item.first_head + h;
        a.partial[place * Dims::HD + element] = part.weighted;
        if (element == 0) {
            a.statistics[2 * place] = part.greatest;
            a.statistics[2 * place + 1] = part.sum;
        }
    });
}
