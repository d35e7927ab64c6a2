// A fixed number of threads that sleep until there is work, and a call that returns when all of its parts are done.

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

using Call = void (*)(void**, int, int);

namespace {

class Pool {
  public:
    explicit Pool(int parts) : parts_(parts) {
        for (int part = 1; part < parts; ++part) threads_.emplace_back([this, part] { work(part); });
    }

    void run(Call call, void** arguments) {
        const std::lock_guard<std::mutex> one_at_a_time(calls_);
        {
            const std::lock_guard<std::mutex> lock(state_);
            call_ = call, arguments_ = arguments, left_ = parts_ - 1, ++round_;
        }
        begin_.notify_all();
        call(arguments, 0, parts_);
        std::unique_lock<std::mutex> lock(state_);
        end_.wait(lock, [this] { return left_ == 0; });
    }

  private:
    void work(int part) {
        for (unsigned long seen = 0;;) {
            std::unique_lock<std::mutex> lock(state_);
            begin_.wait(lock, [&] { return round_ != seen; });
            seen = round_;
            lock.unlock();
            call_(arguments_, part, parts_);
            lock.lock();
            if (--left_ == 0) end_.notify_one();
        }
    }

    const int parts_;
    int left_ = 0;
    unsigned long round_ = 0;
    Call call_ = nullptr;
    void** arguments_ = nullptr;
    std::mutex calls_, state_;
    std::condition_variable begin_, end_;
    std::vector<std::thread> threads_;
};

}  // namespace

// A pool lives as long as the process: its threads sleep, and end with it.
extern "C" void* pool_create(int parts) { return new Pool(parts); }
extern "C" void pool_run(void* pool, Call call, void** arguments) { static_cast<Pool*>(pool)->run(call, arguments); }
