// Keeps a chosen token, and says what comes next. One thread does it all.

struct Locals {};

__device__ __forceinline__ void advance(const Arguments& a, Locals&) {
    if (cta_of<Launch>() > 0 || thread_of<Launch>() > 0) return;
    const int chosen = load_global(a.chosen), index = a.index(), position = load_global(a.position);
    const bool running = chosen != a.end() && index + 1 < a.limit() && position + 1 < a.context();
    a.tokens[index] = chosen;
    *a.count = index + 1;
    *a.token = chosen;
    *a.position = position + running;
    *a.running = running;
}
