// The rows of a ragged batch. A thread finds the request of its row by binary search, and the last row of its request.

struct Locals {};

constexpr int total = ctas_of<Launch> * Launch::threads;

// The last request that begins at the row or before it; requests without rows begin where the next one does.
__device__ __forceinline__ int request_of(const Arguments& a, int row, int requests) {
    int low = 0, high = requests;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (load_global(a.query_pointers + middle) <= row) low = middle;
        else high = middle;
    }
    return low;
}

__device__ __forceinline__ void count(const Arguments& a, Locals&) {
    // As forerun.schedules.status.Status: 0 is OK, 64 says that nothing is split.
    const int status = load_global(a.status), thread = cta_of<Launch>() * Launch::threads + thread_of<Launch>();
    const int requests = status == 0 || status == 64 ? load_global(a.requests) : 0;
    const int rows = requests > 0 ? load_global(a.query_pointers + requests) : 0;
    if (thread == 0) {
        *a.rows = rows;
        *a.answers = requests;
    }
#pragma unroll 1
    for (int row = thread; row < Dims::Q; row += total) {
        int position = -1, place = -1;
        if (row < rows) {
            const int request = request_of(a, row, requests), page_size = a.page_size();
            position = load_global(a.kv_lengths + request) - load_global(a.query_pointers + request + 1) + row;
            const int page = load_global(a.pages + load_global(a.page_pointers + request) + position / page_size);
            place = page * page_size + position % page_size;
        }
        a.positions[row] = position;
        a.places[row] = place;
    }
#pragma unroll 1
    for (int request = thread; request < Dims::R; request += total) {
        int last = -1;
        if (request < requests) {
            const int* pointers = a.query_pointers + request;
            const int begin = load_global(pointers), end = load_global(pointers + 1);
            if (end > begin) last = end - 1;
        }
        a.last[request] = last;
    }
}
