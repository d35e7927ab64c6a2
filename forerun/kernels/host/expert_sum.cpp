// y = the sum of the rows of x, weighted by share.

inline void run(const Arguments& a, const Part& part) {
    for (long i = part.begin(Dims::N); i < part.end(Dims::N); ++i) {
        float sum = 0.0f;
        for (long s = 0; s < Dims::S; ++s) sum += a.share[s] * a.x[s * Dims::N + i];
        a.y[i] = sum;
    }
}
