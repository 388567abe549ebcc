// The scheduler: which thread runs next, when a collective or a barrier is complete, and what is
// wrong when nobody can go on.
#include "tests/simt/simt.h"

#include <bit>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <vector>

#include "tests/simt/fiber.h"
#include "tests/simt/shared_memory.h"
#include "tests/simt/simt_device.h"

namespace bert::simt {

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace harness {
namespace {

constexpr int kWarp = 32;

// Where a thread waits; `name` null: nowhere.
struct Wait {
  const char* name = nullptr;
  bool of_block = false;
  unsigned mask = 0;
  Site site{};
  void* operand = nullptr;
  Resolve resolve = nullptr;  // null: the collective is a barrier, which orders memory
  Vote vote = Vote::none;
  int predicate = 0;  // of the vote; then its result

  bool same_place(const Wait& other) const {
    return name == other.name && mask == other.mask && site.file == other.site.file &&
           site.line == other.site.line;
  }
};

struct Thread {
  Fiber fiber{};
  int index = 0;
  uint3 position{};
  Wait wait{};
  bool exited = false;
  std::vector<AsyncCopy> copies{};  // not yet performed, oldest first
  std::vector<int> groups{};        // how many copies each committed group still has
  int uncommitted = 0;
};

// Threads that can run, found from any position on in little time.
class ReadySet {
 public:
  void reset(int count) { words_.assign(static_cast<std::size_t>(count + 63) / 64, 0); }
  void insert(int i) { words_[word(i)] |= bit(i); }
  void erase(int i) { words_[word(i)] &= ~bit(i); }
  int first_from(int start) const {  // -1: none
    for (std::size_t w = word(start); w < words_.size(); ++w) {
      const std::uint64_t here = w == word(start) ? words_[w] & ~(bit(start) - 1) : words_[w];
      if (here != 0) return static_cast<int>(w) * 64 + std::countr_zero(here);
    }
    return -1;
  }
  int last() const {
    for (std::size_t w = words_.size(); w-- > 0;) {
      if (words_[w] != 0) return static_cast<int>(w) * 64 + 63 - std::countl_zero(words_[w]);
    }
    return -1;
  }

 private:
  static std::size_t word(int i) { return static_cast<std::size_t>(i) / 64; }
  static std::uint64_t bit(int i) { return std::uint64_t{1} << (i % 64); }
  std::vector<std::uint64_t> words_;
};

Schedule initial_schedule() {
  const char* const order = std::getenv("BERT_SIMT_ORDER");
  return order == nullptr || *order == '\0' ? Schedule{} : parse_schedule(order);
}
Schedule& current_schedule() {
  static Schedule schedule = initial_schedule();
  return schedule;
}

std::uint64_t launches = 0;
int reported_races = 0;

// Addresses that stand for what happened before what, for ThreadSanitizer. Those of a block are its
// own: blocks are not ordered by their barriers.
struct BlockSync {
  char barrier[2][8];
  char warps[32][2][kWarp][8];  // of masks by their lowest lane
};
char start_sync, launch_sync, fence_sync;

class Runner {
 public:
  void run(const char* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
           const std::function<void()>& body);
  Thread& running() {
    BERT_CHECK(running_ != nullptr, "called outside of a kernel");
    return *running_;
  }
  void wait(const Wait& wait) {
    Thread& thread = running();
    thread.wait = wait;
    thread.fiber.suspend();
  }
  void interleave() {
    if (schedule_.order == Schedule::Order::random && next_random() % 4 == 0) {
      running().fiber.suspend();
    }
  }
  [[noreturn]] void fail(FailureKind kind, const std::string& what) {
    throw Failure(kind, kernel_, blockIdx, running_ ? running_->index : -1, what);
  }
  SharedMemory& shared() { return shared_; }

 private:
  static void thread_main(void* runner) { static_cast<Runner*>(runner)->thread_main(); }
  void thread_main();
  void run_block();
  int choose();
  bool resolve_warp(Thread& arrived);
  bool resolve_block();
  void order(const std::vector<Thread*>& group, void* sync);
  void go_on(Thread& thread);
  [[noreturn]] void diagnose();
  std::string whereabouts() const;
  void check_mask(const Thread& thread) const;
  std::uint64_t next_random() {  // xorshift64*
    random_ ^= random_ >> 12, random_ ^= random_ << 25, random_ ^= random_ >> 27;
    return random_ * 0x2545F4914F6CDD1Du >> 32;
  }
  std::vector<std::uint64_t> block_order(std::uint64_t blocks);

  std::string kernel_;
  const std::function<void()>* body_ = nullptr;
  Schedule schedule_{};
  std::uint64_t random_ = 1;
  FiberStacks stacks_;
  SharedMemory shared_;
  std::vector<Thread> threads_ = std::vector<Thread>(1024);
  int count_ = 0, exited_ = 0, at_barrier_ = 0;
  std::uint64_t barriers_ = 0;
  unsigned at_collective_[kWarp] = {};  // of each warp, the lanes that wait in collectives
  std::uint64_t warp_barriers_[kWarp] = {};
  ReadySet ready_;
  Thread* running_ = nullptr;
  std::exception_ptr error_;
  std::unique_ptr<BlockSync> sync_, last_sync_;
};

Runner& runner() {
  static Runner the_runner;
  return the_runner;
}

void Runner::run(const char* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                 const std::function<void()>& body) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  kernel_ = kernel;
  body_ = &body;
  schedule_ = harness::schedule();
  random_ = (schedule_.seed + 1) * 0x9E3779B97F4A7C15u;
  random_ = random_ == 0 ? 1 : random_;
  ++launches;
  gridDim = grid;
  blockDim = block;
  count_ = static_cast<int>(block.x * block.y * block.z);
  error_ = nullptr;
  release_outside(&start_sync);
  {
    const IgnoreAccesses of_the_scheduler;
    for (const std::uint64_t b : block_order(std::uint64_t{grid.x} * grid.y * grid.z)) {
      blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                  static_cast<unsigned>(b / grid.x / grid.y)};
      shared_.begin_block(shared_bytes);
      run_block();
      if (error_) break;
    }
    running_ = nullptr;
    acquire_outside(&launch_sync);
  }
  reported_races = 0;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

std::vector<std::uint64_t> Runner::block_order(std::uint64_t blocks) {
  std::vector<std::uint64_t> order(blocks);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  if (schedule_.order == Schedule::Order::reverse) std::reverse(order.begin(), order.end());
  if (schedule_.order == Schedule::Order::random) {
    for (std::uint64_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[next_random() % i]);
  }
  return order;
}

void Runner::thread_main() {
  Thread& thread = running();
  try {
    (*body_)();
    if (!thread.copies.empty()) {
      fail(FailureKind::pending_copy, "returned with copies by cp.async that it did not wait for");
    }
  } catch (...) {
    error_ = std::current_exception();
  }
  thread.exited = true;
  thread.fiber.finish();
}

void Runner::run_block() {
  exited_ = at_barrier_ = 0;
  barriers_ = 0;
  std::fill(std::begin(at_collective_), std::end(at_collective_), 0u);
  std::fill(std::begin(warp_barriers_), std::end(warp_barriers_), 0u);
  // The last ones are kept meanwhile: the same addresses would order this block after that one.
  last_sync_ = std::exchange(sync_, std::make_unique<BlockSync>());
  stacks_.forget(count_);
  ready_.reset(count_);
  for (int i = 0; i < count_; ++i) {
    Thread& thread = threads_[static_cast<std::size_t>(i)];
    const unsigned u = static_cast<unsigned>(i);
    thread.index = i;
    thread.position = {u % blockDim.x, u / blockDim.x % blockDim.y, u / blockDim.x / blockDim.y};
    thread.wait = {};
    thread.exited = false;
    thread.copies.clear();
    thread.groups.clear();
    thread.uncommitted = 0;
    thread.fiber.start(stacks_.stack(i), FiberStacks::kBytes, &Runner::thread_main, this);
    thread.fiber.set_name(kernel_.c_str());
    thread.fiber.acquire(&start_sync);
    ready_.insert(i);
  }
  try {
    while (exited_ < count_) {
      const int next = choose();
      if (next < 0) diagnose();
      Thread& thread = threads_[static_cast<std::size_t>(next)];
      running_ = &thread;
      threadIdx = thread.position;
      thread.fiber.resume();
      if (reported_races != 0) {
        fail(FailureKind::data_race, "ThreadSanitizer has reported it above");
      }
      if (error_) std::rethrow_exception(error_);
      if (thread.exited) {
        ++exited_;
        ready_.erase(next);
      } else if (thread.wait.name != nullptr) {
        ready_.erase(next);
        if (thread.wait.of_block) {
          ++at_barrier_;
          resolve_block();
        } else {
          check_mask(thread);
          resolve_warp(thread);
        }
      }
    }
    running_ = nullptr;
    const std::string overrun = shared_.overrun();
    if (!overrun.empty()) fail(FailureKind::shared_overrun, "wrote " + overrun);
  } catch (...) {
    error_ = std::current_exception();
  }
  for (int i = 0; i < count_; ++i) {
    Fiber& fiber = threads_[static_cast<std::size_t>(i)].fiber;
    fiber.release(&launch_sync);
    if (error_) fiber.forget_threads();
  }
}

int Runner::choose() {
  switch (schedule_.order) {
    case Schedule::Order::forward:
      return ready_.first_from(0);
    case Schedule::Order::reverse:
      return ready_.last();
    case Schedule::Order::random:
      break;
  }
  const int start = static_cast<int>(next_random() % static_cast<std::uint64_t>(count_));
  const int found = ready_.first_from(start);
  return found >= 0 ? found : ready_.first_from(0);
}

void Runner::go_on(Thread& thread) {
  thread.wait.name = nullptr;
  ready_.insert(thread.index);
}

void Runner::check_mask(const Thread& thread) const {
  const Wait& wait = thread.wait;
  const int lane = thread.index % kWarp, first = thread.index - lane;
  const auto refuse = [&](FailureKind kind, const std::string& what) {
    throw Failure(kind, kernel_, blockIdx, thread.index,
                  fmt::format("{} at {}:{} with mask {:#010x}: {}", wait.name, wait.site.file,
                              wait.site.line, wait.mask, what));
  };
  if ((wait.mask >> lane & 1u) == 0) {
    refuse(FailureKind::mask_without_caller, fmt::format("lane {} calls, and is not in it", lane));
  }
  const int beyond = 31 - std::countl_zero(wait.mask);
  if (first + beyond >= count_) {
    refuse(FailureKind::mask_beyond_block,
           fmt::format("the block of {} threads has no lane {} in this warp", count_, beyond));
  }
}

// When all lanes of the mask have come to the same place.
bool Runner::resolve_warp(Thread& arrived) {
  const Wait wait = arrived.wait;
  const int warp = arrived.index / kWarp, first = warp * kWarp;
  unsigned& at_collective = at_collective_[warp];
  at_collective |= 1u << (arrived.index - first);
  if ((wait.mask & ~at_collective) != 0) return false;
  void* operands[kWarp] = {};
  for (unsigned left = wait.mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    const Wait& other = threads_[static_cast<std::size_t>(first + lane)].wait;
    if (!other.same_place(wait)) return false;
    operands[lane] = other.operand;
  }
  at_collective &= ~wait.mask;
  if (wait.resolve != nullptr) wait.resolve(operands, wait.mask);
  std::vector<Thread*> group;
  for (unsigned left = wait.mask; left != 0; left &= left - 1) {
    Thread& thread = threads_[static_cast<std::size_t>(first + std::countr_zero(left))];
    if (wait.resolve == nullptr) group.push_back(&thread);
    go_on(thread);
  }
  if (wait.resolve == nullptr) {
    order(group, sync_->warps[warp][warp_barriers_[warp]++ % 2][std::countr_zero(wait.mask)]);
  }
  return true;
}

// When all threads of the block have come to the same barrier.
bool Runner::resolve_block() {
  if (at_barrier_ < count_) return false;
  const Wait& first = threads_[0].wait;
  int sum = 0;
  for (int i = 0; i < count_; ++i) {
    const Wait& wait = threads_[static_cast<std::size_t>(i)].wait;
    if (!wait.same_place(first)) return false;
    sum += wait.predicate;
  }
  const int result = first.vote == Vote::any   ? sum != 0
                     : first.vote == Vote::all ? sum == count_
                                               : sum;
  std::vector<Thread*> group;
  for (int i = 0; i < count_; ++i) {
    Thread& thread = threads_[static_cast<std::size_t>(i)];
    thread.wait.predicate = result;
    group.push_back(&thread);
    go_on(thread);
  }
  at_barrier_ = 0;
  order(group, sync_->barrier[barriers_++ % 2]);
  return true;
}

// What any of the group did happens before what any of it does next.
void Runner::order(const std::vector<Thread*>& group, void* sync) {
  for (Thread* const thread : group) thread->fiber.release(sync);
  for (Thread* const thread : group) thread->fiber.acquire(sync);
}

// Nobody can run, and not all have returned: says why, by the first rule that is broken.
void Runner::diagnose() {
  const auto throw_failure = [&](FailureKind kind, int thread, const std::string& what) {
    throw Failure(kind, kernel_, blockIdx, thread, what + whereabouts());
  };
  const auto at = [&](int i) -> const Thread& { return threads_[static_cast<std::size_t>(i)]; };
  for (int i = 0; i < count_; ++i) {
    if (at(i).exited || at(i).wait.of_block) continue;
    for (unsigned left = at(i).wait.mask; left != 0; left &= left - 1) {
      const int other = i / kWarp * kWarp + std::countr_zero(left);
      if (!at(other).exited) continue;
      throw_failure(FailureKind::mask_of_exited, i,
                    fmt::format("{} waits for lane {}, which has returned.", at(i).wait.name,
                                std::countr_zero(left)));
    }
  }
  for (int i = 0; at_barrier_ > 0 && i < count_; ++i) {
    if (at(i).exited) {
      throw_failure(FailureKind::exited_before_barrier, i,
                    "it has returned while others wait at a barrier.");
    }
  }
  if (at_barrier_ == count_) {
    throw_failure(FailureKind::divergent_barrier, 0, "the block waits at different barriers.");
  }
  throw_failure(FailureKind::stuck, 0, "nobody can go on.");
  std::abort();  // not reached
}

std::string Runner::whereabouts() const {
  std::string text;
  int lines = 0;
  for (int i = 0; i < count_;) {
    const Thread& first = threads_[static_cast<std::size_t>(i)];
    int end = i + 1;
    for (; end < count_; ++end) {
      const Thread& next = threads_[static_cast<std::size_t>(end)];
      if (next.exited != first.exited || (!next.exited && !next.wait.same_place(first.wait))) break;
    }
    if (++lines > 12) return text + "\n  ...";
    text += fmt::format("\n  threads {} to {}: ", i, end - 1);
    if (first.exited) {
      text += "returned";
    } else {
      text += fmt::format("in {} at {}:{}", first.wait.name, first.wait.site.file,
                          first.wait.site.line);
      if (!first.wait.of_block) text += fmt::format(", mask {:#010x}", first.wait.mask);
    }
    i = end;
  }
  return text;
}

}  // namespace

// --- What kernels call ---------------------------------------------------------------------------

void run(const char* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
         const std::function<void()>& body) {
  runner().run(kernel, grid, block, shared_bytes, body);
}

void warp_collective(const char* name, unsigned mask, void* operand, Resolve resolve, Site site) {
  runner().wait({name, false, mask, site, operand, resolve, Vote::none, 0});
}

void warp_barrier(unsigned mask, Site site) {
  runner().wait({"__syncwarp", false, mask, site, nullptr, nullptr, Vote::none, 0});
}

int block_barrier(const char* name, Vote vote, bool predicate, Site site) {
  Thread& thread = runner().running();
  runner().wait({name, true, 0, site, nullptr, nullptr, vote, predicate});
  return thread.wait.predicate;
}

void fence() {
  Fiber& fiber = runner().running().fiber;
  fiber.acquire(&fence_sync);
  fiber.release(&fence_sync);
  interleave();
}

void interleave() { runner().interleave(); }

int lane() { return runner().running().index % kWarp; }

void* shared_array(const void* key, const char* name, std::size_t bytes, std::size_t alignment) {
  void* const array = runner().shared().static_array(key, name, bytes, alignment);
  if (array == nullptr) {
    fail(FailureKind::shared_limit,
         fmt::format("no shared memory for {} of {} bytes: {} are in use", name, bytes,
                     runner().shared().static_bytes()));
  }
  return array;
}

void* dynamic_shared_memory() { return runner().shared().dynamic_array(); }

// The lists below outlive a block; what grows and shrinks them is none of the kernel's accesses.
void queue_async_copy(const AsyncCopy& copy) {
  const IgnoreAccesses of_the_harness;
  Thread& thread = runner().running();
  thread.copies.push_back(copy);
  ++thread.uncommitted;
}

void commit_async_copies() {
  const IgnoreAccesses of_the_harness;
  Thread& thread = runner().running();
  thread.groups.push_back(std::exchange(thread.uncommitted, 0));
}

bool next_async_copy(int keep, AsyncCopy& copy) {
  const IgnoreAccesses of_the_harness;
  Thread& thread = runner().running();
  while (static_cast<int>(thread.groups.size()) > keep) {
    if (thread.groups.front() == 0) {
      thread.groups.erase(thread.groups.begin());
      continue;
    }
    --thread.groups.front();
    copy = thread.copies.front();
    thread.copies.erase(thread.copies.begin());
    return true;
  }
  return false;
}

void fail(FailureKind kind, const std::string& what) { runner().fail(kind, what); }

void check_aligned(const void* address, std::size_t alignment, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(address) % alignment != 0) {
    fail(FailureKind::misaligned, fmt::format("{} takes addresses that are multiples of {}, not {}",
                                              what, alignment, address));
  }
}

// --- What tests call -----------------------------------------------------------------------------

Schedule parse_schedule(const std::string& text) {
  if (text == "forward") return {Schedule::Order::forward, 0};
  if (text == "reverse") return {Schedule::Order::reverse, 0};
  const std::string prefix = "random:";
  if (text.starts_with(prefix) && text.size() > prefix.size()) {
    char* end = nullptr;
    const std::uint64_t seed = std::strtoull(text.c_str() + prefix.size(), &end, 10);
    if (*end == '\0') return {Schedule::Order::random, seed};
  }
  throw_input_error("BERT_SIMT_ORDER is '{}'; expected forward, reverse or random:SEED", text);
}

void set_schedule(const Schedule& schedule) { current_schedule() = schedule; }
Schedule schedule() { return current_schedule(); }
std::uint64_t launch_count() { return launches; }

std::string failure_name(FailureKind kind) {
  switch (kind) {
    case FailureKind::exited_before_barrier:
      return "return before a barrier";
    case FailureKind::divergent_barrier:
      return "divergent barriers";
    case FailureKind::stuck:
      return "divergent collectives";
    case FailureKind::mask_without_caller:
      return "wrong mask";
    case FailureKind::mask_beyond_block:
      return "wrong mask";
    case FailureKind::mask_of_exited:
      return "collective with a returned thread";
    case FailureKind::shuffle_source:
      return "shuffle from outside the mask";
    case FailureKind::shared_overrun:
      return "write beside a shared array";
    case FailureKind::shared_limit:
      return "too much shared memory";
    case FailureKind::misaligned:
      return "misaligned address";
    case FailureKind::pending_copy:
      return "copy not waited for";
    case FailureKind::data_race:
      return "data race";
    case FailureKind::trap:
      return "trap";
  }
  return "?";
}

Failure::Failure(FailureKind failure_kind, const std::string& in_kernel, uint3 in_block,
                 int in_thread, const std::string& what)
    : RuntimeError(fmt::format("kernel {}, block ({}, {}, {}), {}: {}: {}", in_kernel, in_block.x,
                               in_block.y, in_block.z,
                               in_thread < 0 ? "some thread" : fmt::format("thread {}", in_thread),
                               failure_name(failure_kind), what)),
      kind(failure_kind),
      kernel(in_kernel),
      block(in_block),
      thread(in_thread) {}

const char* sanitizer() {
#if defined(BERT_SIMT_TSAN)
  return "thread";
#elif defined(BERT_SIMT_ASAN)
  return "address";
#else
  return "plain";
#endif
}

}  // namespace harness
}  // namespace bert::simt

#ifdef BERT_SIMT_TSAN
extern "C" {
// Each launch tells of its races, also when an earlier one has had the same.
const char* __tsan_default_options() {
  return "suppress_equal_stacks=0:suppress_equal_addresses=0";
}
void __tsan_on_report(void*) { ++bert::simt::harness::reported_races; }
// Every race during a launch has become an exception.
int __tsan_on_finalize(int) { return bert::simt::harness::reported_races != 0; }
}
#endif
