// The same as norm_qkv_rope.cu, with the heads of q and k normalized before they are turned: by
// 1 / sqrt(mean(x^2) + eps) and a scale for each element. A cluster has whole heads, and its CTAs tell each other the
// sums of the squares in their parts.

#include "qkv_heads.cuh"
#include "qkv_stream.cuh"

__device__ __forceinline__ int head_in_cluster(int row) {
    return row / Dims::HD - first_head_of(cluster_in_grid<Launch>());
}

// Sums of squares: of a warp, and what each CTA of the cluster has found.
struct Exchange {
    float of_warp[warps][most_heads], of_cta[Launch::cluster][most_heads];
    Arrival arrival;  // of the latter
};

__device__ __forceinline__ void load_head_scales(const Arguments& a, Locals& l) {
    Exchange& shared = shared_of_cta<Exchange>();
    if (thread_of<Launch>() == 0) {
        prepare(&shared.arrival);
        publish_prepared();
        expect(&shared.arrival, static_cast<int>(sizeof(shared.of_cta)));
    }
    arrive_in_cluster();
    for_each_pair([&](int slot, int row) {
        const Place place = place_of(row);
        const float* scale = (place.matrix == 0 ? a.q_scale : a.k_scale) + place.row % Dims::HD;
        l.scales[slot] = {load_global(scale), load_global(scale + 1)};
    });
    await_cluster();
}

__device__ __forceinline__ void send_squares(const Locals& l, Exchange& shared) {
    float squares[most_heads] = {};
    for_each_pair([&](int slot, int row) {
        const Pair pair = l.pairs[slot];
#pragma unroll
        for (int head = 0; head < most_heads; ++head) {
            if (head_in_cluster(row) != head) continue;
            squares[head] = fmaf(pair.even, pair.even, fmaf(pair.odd, pair.odd, squares[head]));
        }
    });
#pragma unroll
    for (int head = 0; head < most_heads; ++head) {
        const float sum = warp_sum(squares[head]);
        if (lane() == 0) shared.of_warp[warp()][head] = sum;
    }
    __syncthreads();
    for (int i = thread_of<Launch>(); i < most_heads * Launch::cluster; i += Launch::threads) {
        const int head = i % most_heads;
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < warps; ++w) sum += shared.of_warp[w][head];
        send(sum, &shared.of_cta[rank_in_cluster<Launch>()][head], &shared.arrival, i / most_heads);
    }
}

__device__ __forceinline__ void normalize_heads(const Arguments& a, Locals& l) {
    Exchange& shared = shared_of_cta<Exchange>();
    send_squares(l, shared);
    await_arrival(&shared.arrival, 0);
    for_each_pair([&](int slot, int row) {
        if (place_of(row).matrix == 2) return;
        float squares = 0.0f;
#pragma unroll
        for (int rank = 0; rank < Launch::cluster; ++rank) squares += shared.of_cta[rank][head_in_cluster(row)];
        const float factor = rsqrtf(squares / Dims::HD + a.eps());
        const Pair pair = l.pairs[slot], scale = l.scales[slot];
        l.pairs[slot] = {pair.even * factor * scale.even, pair.odd * factor * scale.odd};
    });
}
