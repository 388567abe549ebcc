// The harness against kernels that break a rule: each must be caught, and told apart from the same
// kernel put right. What only a sanitizer sees is looked for in its build.
#include "tests/simt/simt.h"

#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/device.h"
#include "tests/simt/broken_kernels.h"
#include "tests/support/device_memory.h"

namespace bert::simt {
namespace {

using harness::Failure;
using harness::FailureKind;
using harness::Schedule;
using harness::ScopedSchedule;

const std::vector<Schedule>& all_schedules() {
  using Order = Schedule::Order;
  static const std::vector<Schedule> all = {
      {Order::forward, 0}, {Order::reverse, 0}, {Order::random, 1}, {Order::random, 2}};
  return all;
}

bool with_asan() { return std::string(harness::sanitizer()) == "address"; }
bool with_tsan() { return std::string(harness::sanitizer()) == "thread"; }

// Kernels of one input and one output; each gets memory of the exact size between guard bands.
using Kernel = void (*)(Break, const float*, float*);
struct Result {
  std::vector<double> values{};
  bool guards_intact = true;
};
Result run(Kernel kernel, Break what, std::size_t count, std::size_t offset = 0) {
  const std::unique_ptr<Device> device = make_cpu_device();
  std::vector<double> in(count + offset);
  std::iota(in.begin(), in.end(), 1.0 - static_cast<double>(offset));
  const auto size = static_cast<std::int64_t>(count);
  test::DeviceTensor on_in(*device, DType::f32, {size + static_cast<std::int64_t>(offset)}, in);
  test::DeviceTensor out(*device, DType::f32, {size});
  kernel(what, static_cast<const float*>(on_in.tensor().raw()) + offset,
         static_cast<float*>(out.tensor().raw()));
  return {out.values(), on_in.guards_intact() && out.guards_intact()};
}

// The kind of the failure in this order, checked to be told as it should; none if all went well.
std::optional<FailureKind> failure(Kernel kernel, Break what, std::size_t count,
                                   const std::string& name) {
  try {
    run(kernel, what, count);
    return std::nullopt;
  } catch (const Failure& failure) {
    const std::string message = failure.what();
    EXPECT_EQ(failure.kernel, name);
    EXPECT_NE(message.find("kernel " + name + ", block (0, 0, 0), "), std::string::npos) << message;
    EXPECT_NE(message.find(harness::failure_name(failure.kind)), std::string::npos) << message;
    return failure.kind;
  }
}

void expect_failure(Kernel kernel, Break what, std::size_t count, const std::string& name,
                    FailureKind kind) {
  for (const Schedule& schedule : all_schedules()) {
    const ScopedSchedule scoped(schedule);
    EXPECT_EQ(failure(kernel, what, count, name), kind);
    EXPECT_EQ(failure(kernel, Break::nothing, count, name), std::nullopt);
  }
}

std::vector<double> reversed() {
  std::vector<double> values(64);
  std::iota(values.rbegin(), values.rend(), 1.0);
  return values;
}

// Wrong in some order; under ThreadSanitizer a race in every order.
void expect_unordered(Kernel kernel, Break what, std::size_t count, const std::string& name,
                      const std::vector<double>& right) {
  int wrong = 0;
  for (const Schedule& schedule : all_schedules()) {
    const ScopedSchedule scoped(schedule);
    EXPECT_EQ(run(kernel, Break::nothing, count).values, right);
    if (with_tsan()) {
      EXPECT_EQ(failure(kernel, what, count, name), FailureKind::data_race);
    } else if (run(kernel, what, count).values != right) {
      ++wrong;
    }
  }
  EXPECT_TRUE(wrong >= 1 || with_tsan());
}

TEST(SimtBarriers, AMissingBarrierIsCaught) {
  expect_unordered(reverse_in_shared, Break::missing_barrier, 64, "reverse_kernel", reversed());
}

TEST(SimtBarriers, AReturnBeforeABarrierIsCaught) {
  expect_failure(reverse_in_shared, Break::return_before_barrier, 64, "reverse_kernel",
                 FailureKind::exited_before_barrier);
  try {
    run(reverse_in_shared, Break::return_before_barrier, 64);
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.thread, 40);
    const std::string message = failure.what();
    EXPECT_NE(message.find("thread 40: return before a barrier"), std::string::npos) << message;
    EXPECT_NE(message.find("threads 0 to 39: in __syncthreads at "), std::string::npos) << message;
    EXPECT_NE(message.find("broken_kernels.cu:"), std::string::npos) << message;
    EXPECT_NE(message.find("threads 40 to 40: returned"), std::string::npos) << message;
  }
}

TEST(SimtBarriers, DivergentBarriersAreCaught) {
  expect_failure(reverse_in_shared, Break::divergent_barriers, 64, "reverse_kernel",
                 FailureKind::divergent_barrier);
}

TEST(SimtBarriers, AMissingSyncwarpIsARace) {
  std::vector<double> right(32);
  for (std::size_t i = 0; i < 32; ++i) right[i] = static_cast<double>((i ^ 1u) + 1);
  EXPECT_EQ(run(exchange_in_warp, Break::nothing, 32).values, right);
  if (with_tsan()) {
    EXPECT_EQ(failure(exchange_in_warp, Break::missing_syncwarp, 32, "exchange_kernel"),
              FailureKind::data_race);
  } else {  // the shuffle hides it
    EXPECT_EQ(run(exchange_in_warp, Break::missing_syncwarp, 32).values, right);
  }
}

TEST(SimtMemory, ReadingUnwrittenSharedMemoryGivesNan) {
  for (const Schedule& schedule : all_schedules()) {
    const ScopedSchedule scoped(schedule);
    run(reverse_in_shared, Break::nothing, 64);  // another block has written the same memory
    const std::vector<double> values = run(reverse_in_shared, Break::unwritten_shared, 64).values;
    for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(std::isnan(values[i]), i == 58) << i;
  }
}

TEST(SimtMemory, WritesBesideSharedArraysAreCaught) {
  for (const Break what : {Break::write_behind_shared, Break::write_before_shared,
                           Break::write_behind_dynamic, Break::write_before_dynamic}) {
    if (with_asan()) {
      EXPECT_DEATH(run(reverse_in_shared, what, 64), "use-after-poison(.|\n)*broken_kernels.cu:");
    } else {
      expect_failure(reverse_in_shared, what, 64, "reverse_kernel", FailureKind::shared_overrun);
    }
  }
}

TEST(SimtMemory, AccessesBesideGlobalMemoryAreCaught) {
  EXPECT_TRUE(run(reverse_in_shared, Break::nothing, 64).guards_intact);
  for (const Break what : {Break::write_behind_global, Break::read_behind_global}) {
    if (with_asan()) {
      EXPECT_DEATH(run(reverse_in_shared, what, 64), "AddressSanitizer(.|\n)*broken_kernels.cu:");
    } else if (what == Break::write_behind_global) {
      EXPECT_FALSE(run(reverse_in_shared, what, 64).guards_intact);
    } else {
      EXPECT_TRUE(std::isnan(run(reverse_in_shared, what, 64).values[63]));
    }
  }
}

TEST(SimtMemory, AccessesBesideLocalArraysAreCaught) {
  if (!with_asan()) GTEST_SKIP() << "only AddressSanitizer and UBSan see this";
  EXPECT_DEATH(run(reverse_in_shared, Break::write_behind_local, 64),
               "broken_kernels.cu:.*out of bounds");
}

TEST(SimtMemory, MisalignedAccessesAreCaught) {
  EXPECT_EQ(run(copy_vectors, Break::nothing, 64).values.back(), 64.0);
  expect_failure(copy_vectors, Break::misaligned_ldmatrix, 128, "copy_vectors_kernel",
                 FailureKind::misaligned);
  try {
    run(copy_vectors, Break::nothing, 64, 1);
    ADD_FAILURE() << "not caught";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.kind, FailureKind::misaligned);
  }
}

TEST(SimtMemory, TooMuchStaticSharedMemoryIsRefused) {
  expect_failure(reverse_in_shared, Break::too_much_static_shared, 64, "reverse_kernel",
                 FailureKind::shared_limit);
}

TEST(SimtCollectives, WrongMasksAreCaught) {
  const std::vector<double> sums = run(sum_warps, Break::nothing, 64).values;
  EXPECT_EQ(sums[0], 32 * 33 / 2);
  EXPECT_EQ(sums[63], 64 * 65 / 2 - 32 * 33 / 2);
  const std::pair<Break, FailureKind> cases[] = {
      {Break::caller_not_in_mask, FailureKind::mask_without_caller},
      {Break::lane_returned, FailureKind::mask_of_exited},
      {Break::lanes_beyond_block, FailureKind::mask_beyond_block},
      {Break::source_not_in_mask, FailureKind::shuffle_source},
      {Break::divergent_shuffles, FailureKind::stuck}};
  for (const auto& [what, kind] : cases) {
    expect_failure(sum_warps, what, 64, "sum_warps_kernel", kind);
  }
}

TEST(SimtCopies, CopiesReadTooEarlyArePoison) {
  for (const Schedule& schedule : all_schedules()) {
    const ScopedSchedule scoped(schedule);
    const std::vector<double> right = run(copy_asynchronously, Break::nothing, 128).values;
    for (std::size_t i = 0; i < 128; ++i) ASSERT_EQ(right[i], static_cast<double>(i + 1));
    if (with_tsan()) {
      EXPECT_EQ(failure(copy_asynchronously, Break::copy_read_too_early, 128,
                        "copy_asynchronously_kernel"),
                FailureKind::data_race);
      continue;
    }
    const std::vector<double> early =
        run(copy_asynchronously, Break::copy_read_too_early, 128).values;
    EXPECT_TRUE(std::any_of(early.begin(), early.end(), [](double x) { return std::isnan(x); }));
  }
}

TEST(SimtCopies, CopiesNeverWaitedForAreCaught) {
  expect_failure(copy_asynchronously, Break::copy_never_waited_for, 128,
                 "copy_asynchronously_kernel", FailureKind::pending_copy);
}

// Between blocks: what only ThreadSanitizer sees, since blocks run one after another.
TEST(SimtBlocks, MissingFencesAndPlainCountersAreRaces) {
  constexpr int kBlocks = 5;
  std::vector<float> in(64 * kBlocks, 1.0f);
  in[77] = 3.0f;
  const auto sum = [&](Break what) {
    std::vector<float> partial(kBlocks);
    unsigned counter = 0;
    float total = 0.0f;
    sum_by_last_block(what, in.data(), partial.data(), &counter, &total, kBlocks);
    return total;
  };
  for (const Schedule& schedule : all_schedules()) {
    const ScopedSchedule scoped(schedule);
    EXPECT_EQ(sum(Break::nothing), 64.0f * kBlocks + 2.0f);
    if (!with_tsan()) continue;
    for (const Break what : {Break::missing_fence, Break::plain_counter}) {
      try {
        sum(what);
        ADD_FAILURE() << "not caught";
      } catch (const Failure& failure) {
        EXPECT_EQ(failure.kind, FailureKind::data_race);
      }
    }
  }
}

TEST(SimtArithmetic, AProductWithinAMultiplyAddIsNotRounded) {
  const std::vector<double> zeros(64);
  EXPECT_EQ(run(subtract_products, Break::nothing, 64).values, zeros);
  if (!makes_multiply_adds()) GTEST_SKIP() << "the processor has none, or this is not optimized";
  EXPECT_NE(run(subtract_products, Break::product_in_multiply_add, 64).values, zeros);
}

TEST(SimtLaunch, LimitsAreChecked) {
  const std::uint64_t before = harness::launch_count();
  EXPECT_NO_THROW(launch_empty(1, 1024, 227 << 10));
  EXPECT_EQ(harness::launch_count(), before + 1);
  EXPECT_NO_THROW(launch_empty(0, 32, 0));  // launches nothing
  EXPECT_EQ(harness::launch_count(), before + 1);
  EXPECT_THROW(launch_empty(1, 1025, 0), RuntimeError);
  EXPECT_THROW(launch_empty(1, 0, 0), RuntimeError);
  EXPECT_THROW(launch_empty(1, 32, (227 << 10) + 1), RuntimeError);
  EXPECT_THROW(launch_empty(0x80000000u, 32, 0), RuntimeError);
}

TEST(SimtLaunch, AKernelThatFailedDoesNotHarmTheNext) {
  EXPECT_EQ(failure(reverse_in_shared, Break::trap, 64, "reverse_kernel"), FailureKind::trap);
  EXPECT_EQ(run(reverse_in_shared, Break::nothing, 64).values, reversed());
}

TEST(SimtLaunch, ThreadsAndBlocksRunInTheChosenOrder) {
  const auto recorded = [](const Schedule& schedule) {
    const ScopedSchedule scoped(schedule);
    std::vector<int> order(64, -1);
    unsigned counter = 0;
    record_order(order.data(), &counter);
    return order;
  };
  std::vector<int> ascending(64);
  std::iota(ascending.begin(), ascending.end(), 0);
  const auto all = all_schedules();
  EXPECT_EQ(recorded(all[0]), ascending);
  EXPECT_EQ(recorded(all[1]), std::vector<int>(ascending.rbegin(), ascending.rend()));
  EXPECT_NE(recorded(all[2]), recorded(all[3]));
  EXPECT_EQ(recorded(all[2]), recorded(all[2]));
  std::vector<int> random = recorded(all[2]);
  EXPECT_NE(random, ascending);
  std::sort(random.begin(), random.end());
  EXPECT_EQ(random, ascending);
}

TEST(SimtLaunch, SchedulesAreParsed) {
  EXPECT_EQ(harness::parse_schedule("forward").order, Schedule::Order::forward);
  EXPECT_EQ(harness::parse_schedule("reverse").order, Schedule::Order::reverse);
  EXPECT_EQ(harness::parse_schedule("random:17").order, Schedule::Order::random);
  EXPECT_EQ(harness::parse_schedule("random:17").seed, 17u);
  for (const char* wrong : {"", "random", "random:", "random:x", "backward"}) {
    EXPECT_THROW(harness::parse_schedule(wrong), InputError) << wrong;
  }
}

}  // namespace
}  // namespace bert::simt
