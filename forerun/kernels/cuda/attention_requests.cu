// Attention over a paged KV cache, of consecutive requests of a ragged batch: a warp takes a query row and a head, and goes
// through the positions that the row sees, one by one. Scores are rescaled when a greater one comes (arXiv:1805.02867).

struct Locals {};

constexpr int head_size = Dims::HD, group = Dims::H / Dims::KV, page_size = Dims::PS;
constexpr int elements = ceil_div(head_size, 32);  // of a head, that a lane has
static_assert(has_whole_warps<Launch>, "a warp takes a row and a head");
static_assert(Dims::H % Dims::KV == 0, "query heads share KV heads evenly");

__device__ __forceinline__ int lane_in_warp() { return thread_of<Launch>() % 32; }

// The request of a row, by bisection; a row of none of them has `first - 1`, or a request that ends before it.
__device__ __forceinline__ int request_of(const Arguments& a, int row) {
    int below = a.first() - 1, above = a.first() + a.count();
    while (above - below > 1) {
        const int middle = below + (above - below) / 2;
        if (load_global(a.query_pointers + middle) <= row) below = middle;
        else above = middle;
    }
    return below;
}

template <class T> __device__ __forceinline__ void load_lane(const T* row, float (&x)[elements]) {
#pragma unroll
    for (int e = 0; e < elements; ++e) {
        const int i = 32 * e + lane_in_warp();
        x[e] = i < head_size ? widened(load_global(row + i)) : 0.0f;
    }
}

// How many positions a row sees; 0 if no request has it.
__device__ __forceinline__ int seen_by(const Arguments& a, int request, int row) {
    if (request < a.first()) return 0;
    const int end = load_global(a.query_pointers + request + 1);
    return row < end ? load_global(a.kv_lengths + request) - (end - row) + 1 : 0;
}

__device__ __forceinline__ void attend(const Arguments& a, Locals&) {
    constexpr int warps = warps_of<Launch>, all = warps * ctas_of<Launch>;
    const int warp = cta_of<Launch>() * warps + thread_of<Launch>() / 32;
    const int begin = a.begin(), tasks = (a.end() - begin) * Dims::H;
    for (int task = warp; task < tasks; task += all) {
        const int row = begin + task / Dims::H, h = task % Dims::H;
        const int request = request_of(a, row), seen = seen_by(a, request, row);
        const int first_page = seen > 0 ? load_global(a.page_pointers + request) : 0;
        float q[elements], sums[elements] = {};
        load_lane(a.q + (static_cast<long long>(row) * Dims::H + h) * head_size, q);
        float greatest = -infinity(), weights = 0.0f;
        for (int position = 0; position < seen; ++position) {
            const long long page = load_global(a.pages + first_page + position / page_size);
            const long long at = ((page * page_size + position % page_size) * Dims::KV + h / group) * head_size;
            float k[elements], v[elements], score = 0.0f;
            load_lane(a.k_cache + at, k);
            load_lane(a.v_cache + at, v);
#pragma unroll
            for (int e = 0; e < elements; ++e) score = fmaf(q[e], k[e], score);
            score = warp_sum(score) / sqrtf(static_cast<float>(head_size));
            const float next = fmaxf(greatest, score), kept = expf(greatest - next), weight = expf(score - next);
            greatest = next;
            weights = fmaf(weights, kept, weight);
#pragma unroll
            for (int e = 0; e < elements; ++e) sums[e] = fmaf(weight, v[e], sums[e] * kept);
        }
        Types::y* y = a.y + (static_cast<long long>(row) * Dims::H + h) * head_size;
#pragma unroll
        for (int e = 0; e < elements; ++e) {
            const int i = 32 * e + lane_in_warp();
            if (i < head_size) y[i] = narrowed<Types::y>(seen > 0 ? sums[e] / weights : 0.0f);
        }
    }
}
