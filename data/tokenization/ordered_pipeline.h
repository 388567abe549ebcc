// OrderedPipeline: work done by several threads, results taken in the order it was handed in.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/start_thread.h"

namespace bert {

template <typename Input, typename Output>
class OrderedPipeline {
 public:
  // `work` is called by `threads` threads at once.
  OrderedPipeline(int threads, std::function<Output(Input&)> work)
      : OrderedPipeline(std::move(work)) {
    // From here on the destructor ends those that were started, also where another cannot be.
    for (int i = 0; i < threads; ++i) threads_.push_back(start_thread([this] { run(); }));
  }
  ~OrderedPipeline() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    threads_.clear();  // waits for them
  }
  OrderedPipeline(const OrderedPipeline&) = delete;
  OrderedPipeline& operator=(const OrderedPipeline&) = delete;

  // The caller bounds memory: it takes before it puts when in_flight() is enough.
  void put(Input input) {
    std::packaged_task<Output()> task(
        [this, value = std::move(input)]() mutable { return work_(value); });
    results_.push_back(task.get_future());
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
  }
  std::size_t in_flight() const { return results_.size(); }
  // The oldest result, waited for; what its work threw is thrown here. in_flight() > 0.
  Output take() {
    std::future<Output> result = std::move(results_.front());
    results_.pop_front();
    return result.get();
  }

 private:
  explicit OrderedPipeline(std::function<Output(Input&)> work) : work_(std::move(work)) {}

  void run() {
    while (true) {
      std::packaged_task<Output()> task;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
        if (stop_) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  std::function<Output(Input&)> work_;
  std::deque<std::future<Output>> results_;  // of the caller's thread alone
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::packaged_task<Output()>> tasks_;
  bool stop_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace bert
