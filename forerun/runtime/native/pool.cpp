// A fixed number of threads that sleep until there is a job, and a call that returns when all parts of it are done.
//
// A job is some calls. Each is done in parts, some for each thread, and whoever is free takes the next one. So what else
// runs on a processor delays one part and not a whole share, and nobody waits for a thread that wakes late. A call may
// need calls before it to be complete; threads that have to wait for that look a while before they sleep. Waking all
// threads takes tens of microseconds, so who knows that a job is about to come wakes them before it: they look for it.

#include <atomic>
#include <condition_variable>
#include <ctime>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using Call = void (*)(void**, int, int);

namespace {

long now() {  // nanoseconds, by the clock of Python's perf_counter_ns
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000l + time.tv_nsec;
}

// Lets a time that threads share be the latest of theirs, or the earliest; 0 is none yet.
void extend(long& shared, long time, bool latest) {
    long known = __atomic_load_n(&shared, __ATOMIC_RELAXED);
    while (!known || (latest ? known < time : time < known))
        if (__atomic_compare_exchange_n(&shared, &known, time, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
}

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

struct Job {
    Job(int count, Call* calls, void*** arguments, const int* needed, long* times)
        : calls(calls, calls + count), arguments(arguments, arguments + count), needed(needed, needed + count),
          times(times), done(new std::atomic<int>[count]) {}

    int count() const { return static_cast<int>(calls.size()); }

    const std::vector<Call> calls;
    const std::vector<void**> arguments;
    const std::vector<int> needed;  // how many of the calls before it each one needs
    long* const times;              // two words for each call, when it began and ended, or none
    const std::unique_ptr<std::atomic<int>[]> done;  // parts of each call
    std::atomic<int> ended{0};                       // calls
};

class Pool {
  public:
    explicit Pool(int threads) : parts_(threads == 1 ? 1 : parts_a_thread * threads) {
        for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { work(); });
    }

    void run(Job& job) {
        const std::lock_guard<std::mutex> one_at_a_time(calls_);
        {
            const std::lock_guard<std::mutex> lock(state_);
            for (int i = 0; i < job.count(); ++i) {
                job.done[i] = 0;
                if (job.times) job.times[2 * i] = job.times[2 * i + 1] = 0;
            }
            job.ended = 0;
            job_ = &job, total_ = static_cast<unsigned long>(job.count()) * parts_;
            // Last: a thread that is late for the job before may take a part at once.
            next_ = static_cast<unsigned long>(++round_) << 32;
        }
        begin_.notify_all();
        take();
        wait([&] { return job.ended == job.count(); });
    }

    // Wakes the threads, which look for a job until some time before they sleep again.
    void alert(long until) {
        {
            const std::lock_guard<std::mutex> lock(state_);
            ++alerts_, until_ = until;
        }
        begin_.notify_all();
    }

  private:
    static constexpr int parts_a_thread = 4;
    static constexpr long looking_ns = 20000;  // for how long a thread looks before it sleeps

    // The parts of a job, until none is left. A ticket has the number of the round and that of a part.
    void take() {
        Job* job = nullptr;
        unsigned long total = 0;
        for (unsigned seen = 0;;) {
            const unsigned long ticket = next_++, part = ticket & 0xffffffffu;
            if (round_of(ticket) != seen) {
                const std::lock_guard<std::mutex> lock(state_);
                seen = round_of(ticket);
                if (seen != round_) return;  // that round is over, so the ticket was none of its parts
                job = job_, total = total_;  // of a job that is over, perhaps: then the ticket is none of its parts
            }
            if (part >= total) return;
            do_part(*job, static_cast<int>(part / parts_), static_cast<int>(part % parts_));
        }
    }

    void do_part(Job& job, int call, int part) {
        wait([&] {
            for (int i = job.needed[call]; i-- > 0;)
                if (job.done[i] != parts_) return false;
            return true;
        });
        if (job.times) extend(job.times[2 * call], now(), false);
        job.calls[call](job.arguments[call], part, parts_);
        if (job.times) extend(job.times[2 * call + 1], now(), true);  // before others can see that it ended
        if (++job.done[call] < parts_) return;
        const std::lock_guard<std::mutex> lock(state_);
        ++job.ended;  // the last look at the job: its owner may end it now
        end_.notify_all();
    }

    template <class Condition> void wait(Condition is_met) {
        if (is_met()) return;
        for (const long limit = now() + looking_ns; now() < limit;) {
            for (int i = 0; i < 16; ++i) pause();
            if (is_met()) return;
        }
        std::unique_lock<std::mutex> lock(state_);
        end_.wait(lock, is_met);
    }

    void work() {
        for (unsigned seen = 0, alerts = 0;;) {
            long until;
            {
                std::unique_lock<std::mutex> lock(state_);
                begin_.wait(lock, [&] { return round_ != seen || alerts_ != alerts; });
                alerts = alerts_, until = until_;
            }
            while (round_of(next_) == seen && now() < until) pause();
            if (round_of(next_) == seen) continue;
            seen = round_of(next_);
            take();
        }
    }

    static unsigned round_of(unsigned long ticket) { return static_cast<unsigned>(ticket >> 32); }

    const int parts_;
    std::atomic<unsigned long> next_{0};
    unsigned round_ = 0, alerts_ = 0;
    unsigned long total_ = 0;
    long until_ = 0;
    Job* job_ = nullptr;
    std::mutex calls_, state_;
    std::condition_variable begin_, end_;
    std::vector<std::thread> threads_;
};

}  // namespace

// A pool lives as long as the process: its threads sleep, and end with it.
extern "C" void* pool_create(int threads) { return new Pool(threads); }

extern "C" void pool_run(void* pool, Call call, void** arguments) {
    const int needed = 0;
    Job job(1, &call, &arguments, &needed, nullptr);
    static_cast<Pool*>(pool)->run(job);
}

extern "C" void* job_create(int count, Call* calls, void*** arguments, const int* needed, long* times) {
    return new Job(count, calls, arguments, needed, times);
}
extern "C" void job_destroy(void* job) { delete static_cast<Job*>(job); }
extern "C" void job_run(void* pool, void* job) { static_cast<Pool*>(pool)->run(*static_cast<Job*>(job)); }

// Does jobs as the device calls for them, by words of which each job has one, and another one for the answer. Returns
// when all are done, when the device calls for one that is not a job (its number), or when it has not called for some
// time (-1). `seen` is when it called first. At the time `*alert`, which is 0 for never and after it, the threads are
// woken for some time.
extern "C" int jobs_serve(
    void* pool, void** jobs, int* left, int count, unsigned* words, int step, int answer, long ns, long* seen,
    long* alert, long alert_ns) {
    *seen = 0;
    for (long limit = now() + ns;;) {
        if (*alert && now() >= *alert) {
            static_cast<Pool*>(pool)->alert(*alert + alert_ns);
            *alert = 0;
        }
        bool is_over = true;
        for (int i = 0; i < count; ++i) {
            if (!left[i]) continue;
            is_over = false;
            unsigned* const word = words + static_cast<long>(i) * step;
            if (!__atomic_load_n(word, __ATOMIC_ACQUIRE)) continue;
            if (!*seen) *seen = now();
            if (!jobs[i]) return i;
            __atomic_store_n(word, 0u, __ATOMIC_RELAXED);
            static_cast<Pool*>(pool)->run(*static_cast<Job*>(jobs[i]));
            left[i] = 0;
            __atomic_store_n(word + answer, 1u, __ATOMIC_RELEASE);
            limit = now() + ns;
        }
        if (is_over || now() >= limit) return -1;
        pause();
    }
}
