// y[s] = w[chosen[s]] x[s % R]. Each thread has consecutive rows of all slots.

inline void run(const Arguments& a, const Part& part) {
    const long end = part.end(Dims::S * Dims::N);
    for (long n = part.begin(Dims::S * Dims::N), rows; n < end; n += rows) {
        const long slot = n / Dims::N, row = n % Dims::N, chosen = a.chosen[slot];
        const long expert = chosen < 0 ? 0 : chosen < Dims::E ? chosen : Dims::E - 1;
        rows = end - n < Dims::N - row ? end - n : Dims::N - row;
        products(a.w + (expert * Dims::N + row) * Dims::M, a.x + slot % Dims::R * Dims::M, Dims::M, a.y + n, rows);
    }
}
