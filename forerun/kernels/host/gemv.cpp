// y = w x. Each thread has consecutive rows.

inline void run(const Arguments& a, const Part& part) {
    for (long row = part.begin(Dims::N); row < part.end(Dims::N); ++row) {
        a.y[row] = dot(a.w + row * Dims::K, a.x, Dims::K);
    }
}
