// A fixed number of threads that sleep until there is work, and a call that returns when all of its parts are done.
//
// There are some parts for each thread, and whoever is free takes the next one. So what else runs on a processor delays one
// part and not a whole share, and nobody waits for a thread that wakes late.

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

using Call = void (*)(void**, int, int);

namespace {

class Pool {
  public:
    explicit Pool(int threads) : parts_(threads == 1 ? 1 : parts_a_thread * threads) {
        for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { work(); });
    }

    void run(Call call, void** arguments) {
        const std::lock_guard<std::mutex> one_at_a_time(calls_);
        {
            const std::lock_guard<std::mutex> lock(state_);
            call_ = call, arguments_ = arguments, done_ = 0, ++round_;
            next_ = 0;  // last: a thread that is late for the call before may take the first part of this one at once
        }
        begin_.notify_all();
        take();
        std::unique_lock<std::mutex> lock(state_);
        end_.wait(lock, [this] { return done_ == parts_; });
    }

  private:
    static constexpr int parts_a_thread = 4;

    void take() {
        for (int part = next_++; part < parts_; part = next_++) {
            call_(arguments_, part, parts_);
            if (++done_ < parts_) continue;
            const std::lock_guard<std::mutex> lock(state_);
            end_.notify_one();
        }
    }

    void work() {
        for (unsigned long seen = 0;;) {
            {
                std::unique_lock<std::mutex> lock(state_);
                begin_.wait(lock, [&] { return round_ != seen; });
                seen = round_;
            }
            take();
        }
    }

    const int parts_;
    std::atomic<int> next_{0}, done_{0};
    unsigned long round_ = 0;
    Call call_ = nullptr;
    void** arguments_ = nullptr;
    std::mutex calls_, state_;
    std::condition_variable begin_, end_;
    std::vector<std::thread> threads_;
};

}  // namespace

// A pool lives as long as the process: its threads sleep, and end with it.
extern "C" void* pool_create(int threads) { return new Pool(threads); }
extern "C" void pool_run(void* pool, Call call, void** arguments) { static_cast<Pool*>(pool)->run(call, arguments); }
