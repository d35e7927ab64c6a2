// y = w x. Each thread has consecutive rows.

inline void run(const Arguments& a, const Part& part) {
    const long begin = part.begin(Dims::N), end = part.end(Dims::N);
    products(a.w + begin * Dims::K, a.x, Dims::K, a.y + begin, end - begin);
}
